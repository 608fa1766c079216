"""Does the gateway keep memory? Many requests of every kind, and the worker's size: ``python -m genkan.bench.soak``."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from statistics import linear_regression

import click
import uvloop

from genkan.bench import report
from genkan.bench.chat_traffic import Requests, check_refused, check_stream, check_whole, malformed
from genkan.bench.cores import divide, pinned
from genkan.bench.gateway_arms import Arm, serving
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.http_load import Call, Measured, connected
from genkan.bench.server_process import ServerFailed, interruptible, rss_bytes

CONNECTIONS = 64
WARM_UP = 20_000  # requests; a tenth of a soak that is shorter than ten times that
MAX_GROWTH_MB = 5.0
SAMPLES = 90

EVERY = 50  # requests, of which one each is
MALFORMED, LEFT_UNANSWERED, LEFT_IN_STREAM = 10, 21, 32


def mixed_calls(port: int) -> Iterator[Call]:
    """Calls without end: every second one a stream, and of 50 one malformed and two whose client leaves early."""
    whole, stream, bad = Requests(port, stream=False), Requests(port, stream=True), malformed(port)
    for number in count(1):
        place = number % EVERY
        if place == MALFORMED:
            yield Call(bad, number, check_refused)
        elif place == LEFT_UNANSWERED:
            yield Call(whole(number), number, check_whole, "sent")
        elif place == LEFT_IN_STREAM:
            yield Call(stream(number), number, check_stream, "first_bytes")
        elif number % 2:
            yield Call(whole(number), number, check_whole)
        else:
            yield Call(stream(number), number, check_stream)


@dataclass(slots=True)
class Growth:
    """A process's memory over the requests it has taken since the warm-up."""

    requests: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    def add(self, requests: int, rss_mb: float) -> None:
        self.requests.append(requests)
        self.rss_mb.append(rss_mb)

    @property
    def grown_mb(self) -> float:
        """From the first sample to the last; negative when it shrank."""
        return self.rss_mb[-1] - self.rss_mb[0]

    @property
    def mb_per_100k(self) -> float:
        """The slope of the line through all samples, in MB per 100,000 requests."""
        return 1e5 * linear_regression(self.requests, self.rss_mb).slope


def sampled(calls: Iterator[Call], every: int, sample: Callable[[int], None]) -> Iterator[Call]:
    """``calls``, with ``sample`` called before each one whose place is a multiple of ``every``, the first included."""
    for place, call in enumerate(calls):
        if place % every == 0:
            sample(place)
        yield call


async def soak(arm: Arm, requests: int) -> tuple[Growth, Measured]:
    """Make ``requests`` after a warm-up and watch the worker's memory. Raises WrongAnswer."""
    growth = Growth()
    calls = mixed_calls(arm.server.port)
    async with connected(arm.server.port, CONNECTIONS) as load:
        await load.run(islice(calls, min(WARM_UP, requests // 10)))
        worker = arm.server.worker()

        def sample(place: int) -> None:
            growth.add(place, rss_bytes(worker) / 1e6)

        measured = await load.run(sampled(islice(calls, requests), max(1, requests // SAMPLES), sample))
        sample(requests)
    return growth, measured


@click.command()
@click.option("--requests", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(requests: int, out: Path) -> None:
    """Requests of every kind through genkan; fails when its worker has grown by more than 5 MB."""
    cores = divide()
    try:
        with interruptible(), pinned(cores.load), serving(["genkan"], cores) as [arm]:
            growth, measured = uvloop.run(soak(arm, requests))
    except (ServerFailed, WrongAnswer) as error:
        raise click.ClickException(str(error)) from None
    print(f"{requests:,} requests in {measured.elapsed_s:.0f} s, half of them streamed")
    print(f"worker: {growth.rss_mb[0]:.1f} MB at first, {growth.rss_mb[-1]:.1f} MB at last")
    print(f"slope: {growth.mb_per_100k:+.2f} MB per 100,000 requests")
    result = {
        "requests": requests,
        "start_mb": growth.rss_mb[0],
        "end_mb": growth.rss_mb[-1],
        "grown_mb": growth.grown_mb,
        "mb_per_100k": growth.mb_per_100k,
        "rps": measured.ended / measured.elapsed_s,
    }
    if growth.grown_mb > MAX_GROWTH_MB:
        print(f"it grew by {growth.grown_mb:.1f} MB, and {MAX_GROWTH_MB:g} MB are allowed", file=sys.stderr)
    report.finish(out, "soak", result)
    if growth.grown_mb > MAX_GROWTH_MB:
        sys.exit(1)


if __name__ == "__main__":
    main()
