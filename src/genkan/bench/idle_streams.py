"""Many streams that say little, held by one worker: whether its loop keeps up, and what each costs it in memory."""

import asyncio
import resource
import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from genkan.bench import chat_traffic as traffic
from genkan.bench.bars import Bar, Soaked
from genkan.bench.chat_traffic import EVENTS, Requests
from genkan.bench.cores import Cores
from genkan.bench.http_load import Call, Client, Measured
from genkan.bench.server_process import ServerProcess, metrics_text, rss_bytes
from genkan.bench.slow_upstream import AT_THE_END
from genkan.bench.soaked_gateway import Upstream, serving_behind

MAX_LAG_S = 0.1
OPENED_A_SECOND = 200
SPARE_S = 2.0  # between the end of the measurement and that of the first stream
EVENT_S = 5.0  # from one token to the next
_SPARE_FILES = 1_000  # what a worker has open besides two for each stream
_LAG = "genkan_loop_lag_seconds"

Buckets = Mapping[float, float]  # how many values are up to the bound, by bound


def soak(cores: Cores, streams: int, event_s: float = EVENT_S) -> Soaked:
    """Hold ``streams`` at once, each to its last event. Raises ServerFailed and WrongAnswer."""
    _allow_files(2 * streams + _SPARE_FILES)
    room = {"limit": streams, "keep_alive": 20}
    settings = {"connections": room, "limits": {"tenant": {"concurrent": 10 * streams}}}
    with serving_behind(Upstream(event_s=event_s), cores, settings) as server:
        figures = uvloop.run(_hold(server, streams, event_s))
    bars = [
        Bar(f"loop lag, p99 with {streams:,} streams held", figures["lag_p99_ms"], "≤", 1e3 * MAX_LAG_S, "ms"),
        Bar("streams held at once", figures["held_at_once"], "≥", streams),
        Bar("streams that did not end as they must", figures["failed"], "≤", 0),
    ]
    return Soaked("idle streams", bars, figures)


async def _hold(server: ServerProcess, streams: int, event_s: float) -> dict[str, Any]:
    request = Requests(server.port, stream=True)
    measured = Measured()
    calls = [Call(request(number), number, traffic.check_stream) for number in range(1, streams + 1)]
    began_s = time.perf_counter()
    before = {pid: rss_bytes(pid) for pid in server.processes()}
    clients: list[Client] = []
    ends = []
    for call in calls:
        client = Client(server.port)
        await client.connect()
        clients.append(client)
        ends.append(client.run(iter([call]), measured))
        await asyncio.sleep(1 / OPENED_A_SECOND)
    opened = await _lag(server.port)
    first_ends_s = began_s + (EVENTS - AT_THE_END) * event_s
    held_s = max(0.0, first_ends_s - time.perf_counter() - SPARE_S)
    cpu_s = server.cpu_s()
    await asyncio.sleep(held_s)
    held, cpu_s = await _lag(server.port), server.cpu_s() - cpu_s
    worker, still = server.worker(), streams - measured.ended  # by now it has worked most, and not at the start
    before_mb, held_mb = before[worker] / 1e6, rss_bytes(worker) / 1e6
    await asyncio.wait(ends)
    for client in clients:
        client.close()
    return {
        "streams": streams,
        "held_at_once": still,
        "held_s": held_s,
        "tokens_per_s": streams / event_s,
        "lag_p99_ms": 1e3 * quantile(_difference(held, opened), 0.99),
        "lag_p99_ms_while_opening": 1e3 * quantile(opened, 0.99),
        "looks": max(_difference(held, opened).values()),
        "cpu_share": cpu_s / held_s if held_s else 0.0,
        "kb_per_stream": 1e3 * (held_mb - before_mb) / still if still else 0.0,
        "before_mb": before_mb,
        "held_mb": held_mb,
        "failed": measured.errors.total() + streams - measured.ended,
        "errors": dict(measured.errors.most_common(5)),
    }


async def _lag(port: int) -> Buckets:
    """The histogram of all looks so far, of all workers together: there is one."""
    text = await asyncio.to_thread(metrics_text, port)
    lines = "".join(line for line in text.splitlines(keepends=True) if _LAG in line)
    samples = chain.from_iterable(family.samples for family in text_string_to_metric_families(lines))
    return {float(sample.labels["le"]): sample.value for sample in samples if sample.name == f"{_LAG}_bucket"}


def _difference(later: Buckets, earlier: Buckets) -> Buckets:
    return {bound: number - earlier.get(bound, 0) for bound, number in later.items()}


def quantile(buckets: Buckets, share: float) -> float:
    """The bound of the bucket that ``share`` of the values end in: what they do not exceed. 0 without values."""
    total = max(buckets.values(), default=0)
    return next((bound for bound, number in sorted(buckets.items()) if total and number >= share * total), 0.0)


def _allow_files(number: int) -> None:
    """Let this process, and those it starts, have so many files open. Raises ValueError where the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
