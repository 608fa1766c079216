"""First-token times of a model that stalls, asked once and hedged: ``python -m genkan.bench.hedge``.

Two routes of one server lead to the same two replicas, of which one request in twenty stalls for a second. One of them
hedges. They take turns, and both are asked the same numbers.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import click
import uvloop

from genkan.bench import report
from genkan.bench.chat_traffic import MODEL, Requests, check_stream
from genkan.bench.cores import divide, pinned
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.http_load import Call, Measured, connected
from genkan.bench.rounds import Arm, Rounds, interleaved
from genkan.bench.server_process import Command, ServerFailed, ServerProcess, interruptible, metrics_text, running
from genkan.bench.timing import percentile

RouteName = Literal["default", "hedging"]  # names of one length, so that requests can be told apart by them alone
ROUTES: tuple[RouteName, ...] = get_args(RouteName)
CLIENTS = 16
REQUESTS, QUICK_REQUESTS = 2000, 300  # a round and route
WARM_UP = 200
DEFAULT_ROUNDS = 3
_BENTOML = str(Path(sys.executable).with_name("bentoml"))
REPLICAS = ("replica-1", "replica-2")


def configuration(ports: tuple[int, int]) -> dict[str, Any]:
    """Of a gateway before two replicas of one model on these ports of this machine: both routes."""
    return {
        "upstreams": [
            {"name": name, "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
            for name, port in zip(REPLICAS, ports, strict=True)
        ],
        "models": [{"name": MODEL, "deployments": [{"upstream": name} for name in REPLICAS]}],
        "routes": [
            {"alias": "default", "chain": [MODEL]},
            {"alias": "hedging", "chain": [MODEL], "hedge": {}},  # as it is by default
        ],
    }


def calls(port: int, route: RouteName, numbers: range) -> Iterator[Call]:
    """A stream for each number, from the server on ``port``."""
    request = Requests(port, stream=True)
    for number in numbers:
        yield Call(
            request(number).replace(b'"model": "default"', b'"model": "%b"' % route.encode()), number, check_stream
        )


class Gateway:
    """The server under test, and what its upstreams are asked."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._next = dict.fromkeys(ROUTES, 1)

    def measure(self, route: RouteName, requests: int) -> Mapping[str, float]:
        """``p50_ms``, ``p90_ms``, ``p99_ms`` of the next so many requests' first bytes, ``extra`` attempts a request.

        Raises WrongAnswer.
        """
        first = self._next[route]
        self._next[route] += requests
        before = self._attempts()
        measured = uvloop.run(self._ask(route, range(first, first + requests)))
        extra = (self._attempts() - before) / requests - 1
        return {f"p{p}_ms": 1e3 * percentile(measured.first_byte_s, p) for p in (50, 90, 99)} | {"extra": extra}

    async def _ask(self, route: RouteName, numbers: range) -> Measured:
        async with connected(self.server.port, CLIENTS) as load:
            return await load.run(calls(self.server.port, route, numbers))

    def _attempts(self) -> float:
        """Made so far, all routes together."""
        text = metrics_text(self.server.port)
        lines = (line for line in text.splitlines() if line.startswith("genkan_attempts_total{"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def serving() -> Iterator[Gateway]:
    """A ready gateway and its upstreams, ended afterwards. Raises ServerFailed."""
    cores = divide()
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(pinned(cores.load))
        one, other = (stack.enter_context(running(_upstream(name), cores.load)) for name in REPLICAS)
        server = stack.enter_context(running(_genkan(configuration((one.port, other.port))), cores.server))
        server.wait_until_answered(next(calls(server.port, "default", range(1))).request)
        yield Gateway(server)


def _upstream(name: str) -> Command:
    return Command(name, [sys.executable, "-m", "genkan.bench.stalling_upstream", "{port}", name])


def _genkan(config: dict[str, Any]) -> Command:
    line = [_BENTOML, "serve", ".", "--host", "127.0.0.1", "--port", "{port}"]
    return Command("genkan", line, {"GENKAN_CONFIG": "{folder}/genkan.yaml"}, {"genkan.yaml": json.dumps(config)})


def compare(requests: int, rounds: int) -> Rounds:
    """Both routes, ``requests`` a round each. Raises ServerFailed and WrongAnswer."""
    with serving() as gateway:
        for route in ROUTES:
            gateway.measure(route, WARM_UP)
        arms: dict[str, Arm] = {route: partial(gateway.measure, route, requests) for route in ROUTES}
        return interleaved("hedging", arms, rounds)


def summary(rounds: Rounds) -> dict[str, float]:
    """The medians by the names that the README and CI know."""
    figures = {f"{name}_{route}": rounds.median(route, name) for route in ROUTES for name in ("p50_ms", "p99_ms")}
    cut = 1 - rounds.ratio("p99_ms", "hedging", "default").of_medians
    return figures | {"p99_cut": cut, "extra_attempts": max(rounds.values("hedging", "extra"))}


@click.command()
@click.option("--quick", is_flag=True, help="Few requests and one round: shows that it works, measures little.")
@click.option("--rounds", type=click.IntRange(min=1), help=f"Rounds of both routes; {DEFAULT_ROUNDS} if not given.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, rounds: int | None, out: Path) -> None:
    """A model of which one stream in twenty stalls for a second before its first token: asked once, and hedged."""
    try:
        result = compare(QUICK_REQUESTS if quick else REQUESTS, rounds or (1 if quick else DEFAULT_ROUNDS))
    except (ServerFailed, WrongAnswer) as error:
        raise click.ClickException(str(error)) from None
    metrics = ("p50_ms", "p90_ms", "p99_ms", "extra")
    print(
        report.table(
            "First tokens", {route: {name: result.median(route, name) for name in metrics} for route in ROUTES}
        )
    )
    print(f"p99, hedging / default: {result.ratio('p99_ms', 'hedging', 'default')}")
    report.finish(out, "hedge", summary(result))


if __name__ == "__main__":
    main()
