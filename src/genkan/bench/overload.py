"""Twice the load that a gateway can take: what it still answers, and how quickly it refuses the rest.

What limits it is its own core, or else an upstream that takes few requests at a time. Capacity is what clients get who
wait for their answers, measured before and after the overload, as a machine's speed drifts.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, takewhile
from typing import Any

import orjson
import uvloop

from genkan.bench import chat_traffic as traffic
from genkan.bench.bars import Bar, Soaked
from genkan.bench.chat_traffic import MODEL, Requests
from genkan.bench.cores import Cores
from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.http_load import Call, connected
from genkan.bench.open_load import Outcomes, open_load
from genkan.bench.server_process import ServerProcess
from genkan.bench.soaked_gateway import Upstream, serving_behind
from genkan.bench.timing import percentile

TIMES_CAPACITY = 2.0
MIN_GOODPUT = 0.9  # of the capacity
MAX_REFUSAL_MS = 50.0
CONNECTIONS = 64
WARM_UP_S = 2.0
PAUSE_S = 2.0  # after which nobody is refused any more
_ROOM: dict[str, Any] = {"limit": 256, "queue": 256, "keep_alive": 256}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits the gateway, and what it is asked for."""

    name: str
    what: str
    upstream: Upstream
    connections: dict[str, Any]  # to the upstream
    stream: bool = False


#: A stream is 20 events; a whole answer is the cheapest request there is, next to which a refusal is dearest.
BOTTLENECKS = (
    Bottleneck("cpu", "the gateway's core, whole answers", Upstream(), _ROOM),
    Bottleneck("cpu-streams", "the gateway's core, streams", Upstream(), _ROOM, stream=True),
    Bottleneck("upstream", "an upstream of 32 places", Upstream(answer_s=0.05), {"limit": 32, "queue": 32}),
)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each measurement of the capacity, and of the overload."""

    capacity_s: float = 10.0
    overload_s: float = 40.0


@dataclass(slots=True)
class Overloaded:
    """What was measured. Rates are a second's; ``…_per_cpu_s`` are of the server's processor time."""

    capacity: float
    capacity_per_cpu_s: float
    offered: float
    goodput_per_cpu_s: float
    outcomes: Outcomes

    @property
    def goodput(self) -> float:
        return self.outcomes.answered_in_time / self.outcomes.duration_s

    def figures(self) -> dict[str, Any]:
        outcomes = self.outcomes
        return {
            "capacity_rps": self.capacity,
            "offered_rps": self.offered,
            "goodput_rps": self.goodput,
            "goodput_of_capacity": self.goodput / self.capacity,
            "goodput_of_capacity_per_cpu_s": self.goodput_per_cpu_s / self.capacity_per_cpu_s,
            "refused": len(outcomes.refused_s),
            "refusal_p50_ms": _ms(outcomes.refused_s, 50),
            "refusal_p99_ms": _ms(outcomes.refused_s, 99),
            "answer_p50_ms": _ms(outcomes.answered_s, 50),
            "answer_p99_ms": _ms(outcomes.answered_s, 99),
            "sent_late_p99_ms": _ms(outcomes.late_s, 99),
            "connections": outcomes.connections,
            "errors": dict(outcomes.errors.most_common(5)),
        }


def soak(cores: Cores, times: Times, only: Bottleneck) -> Soaked:
    """Overload one bottleneck. Raises ServerFailed, and WrongAnswer where even the capacity cannot be measured."""
    with serving_behind(only.upstream, cores, _settings(only)) as server:
        overloaded = uvloop.run(_overload(server, times, stream=only.stream))
    figures = overloaded.figures()
    bars = [
        Bar("goodput, of the capacity", figures["goodput_of_capacity"], "≥", MIN_GOODPUT),
        Bar("refusals, p99 from the intended time", figures["refusal_p99_ms"], "≤", MAX_REFUSAL_MS, "ms"),
        Bar("neither answered nor refused as must be", overloaded.outcomes.errors.total(), "≤", 0),
    ]
    return Soaked(f"overload: {only.what}", bars, figures)


def _settings(only: Bottleneck) -> dict[str, Any]:
    return {
        "connections": only.connections,
        "limits": {"tenant": {"requests": {"limit": 10**9}, "concurrent": 100_000}},
        "prices": {"models": [{"model": MODEL, "input": 2, "output": 8}]},
    }


async def _overload(server: ServerProcess, times: Times, *, stream: bool) -> Overloaded:
    calls = _calls(server.port, stream=stream)
    await _capacity(server, calls, min(WARM_UP_S, times.capacity_s))
    before = await _capacity(server, calls, times.capacity_s)
    offered = TIMES_CAPACITY * before[0]
    async with open_load(server.port, is_refusal) as load:
        cpu_s = server.cpu_s()
        outcomes = await load.run(calls, offered, times.overload_s)
        cpu_s = server.cpu_s() - cpu_s
    await asyncio.sleep(PAUSE_S)
    after = await _capacity(server, calls, times.capacity_s)
    capacity, per_cpu_s = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    return Overloaded(capacity, per_cpu_s, offered, outcomes.answered_in_time / cpu_s, outcomes)


async def _capacity(server: ServerProcess, calls: Iterator[Call], seconds: float) -> tuple[float, float]:
    """Answers a second, and for each second of the server's processor time. Raises WrongAnswer."""
    end_s = time.perf_counter() + seconds
    async with connected(server.port, CONNECTIONS) as load:
        cpu_s = server.cpu_s()
        measured = await load.run(takewhile(lambda _: time.perf_counter() < end_s, calls))
        cpu_s = server.cpu_s() - cpu_s
    answers = len(measured.latency_s)
    return answers / measured.elapsed_s, answers / cpu_s


def _calls(port: int, *, stream: bool) -> Iterator[Call]:
    request = Requests(port, stream=stream)
    check = traffic.check_stream if stream else traffic.check_whole
    return (Call(request(number), number, check) for number in count(1))


def is_refusal(answer: Answer, head: bytes) -> bool:
    """Whether it is the 503 of an overloaded server, in OpenAI's form. Raises WrongAnswer for another 503."""
    if answer.status != 503:
        return False
    _check_body(answer.body)
    seconds = _header(head, b"retry-after")
    if not (seconds.isdigit() and 1 <= int(seconds) <= 60):
        raise WrongAnswer(f"a 503 whose retry-after is {seconds!r}")
    if not _header(head, b"x-request-id"):
        raise WrongAnswer("a 503 without x-request-id")
    return True


def _header(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n%b:" % name)[2].partition(b"\r\n")[0].strip()


@lru_cache(maxsize=64)
def _check_body(body: bytes) -> None:
    try:
        error = orjson.loads(body)["error"]
        well_formed = error["code"] == "server_is_overloaded" and error["message"] and error.keys() >= {"type", "param"}
    except (ValueError, KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise WrongAnswer(f"a 503 with another body: {body[:100]!r}")


def _ms(seconds: list[float], percent: float) -> float:
    return 1e3 * percentile(seconds, percent) if seconds else 0.0
