"""Does the gateway keep memory? Many requests of every kind, and the worker's size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from statistics import linear_regression
from typing import Any

import uvloop

from genkan.bench.bars import Bar, Soaked
from genkan.bench.chat_traffic import MODEL, Requests, check_refused, check_stream, check_whole, malformed
from genkan.bench.cores import Cores
from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.http_load import Call, Measured, connected
from genkan.bench.server_process import ServerProcess, rss_bytes
from genkan.bench.soaked_gateway import Upstream, serving_behind

CONNECTIONS = 64
WARM_UP = 20_000  # requests; a tenth of a soak that is shorter than ten times that
MAX_GROWTH_MB = 10.0
SAMPLES = 90

EVERY = 50  # requests, of which one each is
MALFORMED, UNKNOWN, LEFT_UNANSWERED, LEFT_IN_STREAM, LIMITED = 10, 16, 21, 32, 43
CACHED = range(5, EVERY, 10)  # and five of which are like one of a hundred others
QUESTIONS = 100
_KEPT, _SCARCE = "kept", "scarce"  # a route whose answers are stored, and one that is soon used up


def mixed_calls(port: int) -> Iterator[Call]:
    """Calls without end, every second one a stream.

    Of 50 one is malformed, one for a model that is not there, one over a limit; five ask what was asked before, and of
    two the client leaves early.
    """
    whole, stream, bad = Requests(port, stream=False), Requests(port, stream=True), malformed(port)
    kept, scarce, unknown = (Requests(port, stream=False, model=model) for model in (_KEPT, _SCARCE, "nobody"))
    for number in count(1):
        place = number % EVERY
        if place == MALFORMED:
            yield Call(bad, number, check_refused)
        elif place == UNKNOWN:
            yield Call(unknown(number), number, check_unknown)
        elif place == LIMITED:
            yield Call(scarce(number), number, check_limited)
        elif place in CACHED:
            yield Call(kept(number % QUESTIONS), number % QUESTIONS, check_whole)
        elif place == LEFT_UNANSWERED:
            yield Call(whole(number), number, check_whole, "sent")
        elif place == LEFT_IN_STREAM:
            yield Call(stream(number), number, check_stream, "first_bytes")
        elif number % 2:
            yield Call(whole(number), number, check_whole)
        else:
            yield Call(stream(number), number, check_stream)


@dataclass(slots=True)
class Shed:
    """Lets a well-formed refusal of an overloaded worker pass, and counts it: memory is what is looked at here."""

    number: int = 0

    def __call__(self, call: Call) -> Call:
        """``call``, whose answer may be such a refusal too."""

        def check(answer: Answer, number: int) -> None:
            if answer.status == 503 and b'"server_is_overloaded"' in answer.body:
                self.number += 1
            else:
                call.check(answer, number)

        return call._replace(check=check)


def check_unknown(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is 404."""
    if answer.status != 404:
        raise WrongAnswer(f"status {answer.status} instead of 404")


def check_limited(answer: Answer, number: int) -> None:
    """Raises WrongAnswer unless it is 429, or one of the few answers that the limit lets through."""
    if answer.status != 429:
        check_whole(answer, number)


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


def soak(cores: Cores, requests: int) -> Soaked:
    """Make ``requests`` of the gateway after a warm-up. Raises ServerFailed and WrongAnswer."""
    shed = Shed()
    with serving_behind(Upstream(), cores, _settings()) as server:
        growth, measured = uvloop.run(watch(server, requests, shed))
    figures = {
        "requests": requests,
        "start_mb": growth.rss_mb[0],
        "end_mb": growth.rss_mb[-1],
        "most_mb": max(growth.rss_mb),
        "grown_mb": growth.grown_mb,
        "mb_per_100k": growth.mb_per_100k,
        "rps": measured.ended / measured.elapsed_s,
        "shed": shed.number,
    }
    bar = Bar(f"growth over {requests:,} requests", growth.grown_mb, "≤", MAX_GROWTH_MB, "MB")
    return Soaked("memory", [bar], figures)


async def watch(server: ServerProcess, requests: int, shed: Shed) -> tuple[Growth, Measured]:
    """Make ``requests`` after a warm-up and watch the worker's memory. Raises WrongAnswer."""
    growth = Growth()
    calls = map(shed, mixed_calls(server.port))
    async with connected(server.port, CONNECTIONS) as load:
        await load.run(islice(calls, min(WARM_UP, requests // 10)))
        worker = server.worker()

        def sample(place: int) -> None:
            growth.add(place, rss_bytes(worker) / 1e6)

        measured = await load.run(sampled(islice(calls, requests), max(1, requests // SAMPLES), sample))
        sample(requests)
    return growth, measured


def _settings() -> dict[str, Any]:
    route = {"chain": [MODEL]}
    return {
        "routes": [
            {"alias": "default", **route},
            {"alias": _KEPT, **route, "cache": {"exact": "on"}},
            {"alias": _SCARCE, **route},
        ],
        "limits": {
            "tenant": {"requests": {"limit": 10**9}, "tokens": {"limit": 10**12}, "concurrent": 10_000},
            "models": {MODEL: {"tokens": {"limit": 10**12}}},
            "routes": {_SCARCE: {"requests": {"limit": 10, "window_s": 60.0}}},
        },
        "prices": {"models": [{"model": MODEL, "input": 2, "output": 8}]},
    }
