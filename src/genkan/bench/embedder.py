"""What the embedder costs through its service: one text at a time, 64 callers at once, after that, and at a stop.

``bentoml serve`` runs with an embedder and no engine; callers speak to the embedder's socket as the gateway's workers
do. Prints a table and, as its last line, one JSON object.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, cycle
from pathlib import Path
from statistics import median

from prometheus_client.parser import text_string_to_metric_families

from genkan.bench.server_process import ROOT, Command, ServerProcess, interruptible, metrics_text, rss_bytes, running
from genkan.bench.timing import percentile
from genkan.config import EmbedderConfig
from genkan.errors import RequestError
from genkan.upstream.embedder import EmbedderClient

CALLERS = 64
ROUNDS = 3  # what is compared is measured in the same one, as a machine is not as fast at all times
_TIMEOUT_S = 30.0
_READY = b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
_BATCHES = "bentoml_service_adaptive_batch_size"
_QUESTIONS = (
    "How do I reset my password?",
    "Làm thế nào để đổi mật khẩu của tôi?",
    "비밀번호를 어떻게 재설정하나요?",
    "Where can I see my invoices for last month?",
    "Tôi muốn hủy gói đăng ký thì phải làm gì?",
    "환불은 며칠 안에 처리되나요?",
    "Can I change the delivery address of an order?",
)
_SETTINGS = {
    "upstreams": [{"name": "nobody", "kind": "openai", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [{"name": "none", "upstream": "nobody"}],
    "routes": [{"alias": "default", "chain": ["none"]}],
    "redis": {"url": "memory"},
    "embedder": {},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300, help="of one caller; 64 callers make ten times as many")
    parser.add_argument("--threads", type=int, default=0, help="that the embedder computes with")
    options = parser.parse_args(arguments)
    settings = {**_SETTINGS, "embedder": {"threads": options.threads}}
    command = Command(
        "genkan",
        [str(Path(sys.executable).with_name("bentoml")), "serve", str(ROOT), "--port", "{port}"],
        {"GENKAN_CONFIG": "{folder}/genkan.yaml"},
        {"genkan.yaml": json.dumps(settings)},
    )
    with interruptible(), running(command, frozenset(os.sched_getaffinity(0))) as server:
        server.wait_until_answered(_READY)
        figures = asyncio.run(_measured(server, options.calls))
    for name, value in figures.items():
        print(f"{name:<28}{value:>10g}")
    print(json.dumps(figures))
    return 0


@dataclass(frozen=True, slots=True)
class Round:
    """The seconds that each call took, and the requests that a batch had while many called at once."""

    alone_s: list[float]
    together_s: list[float]
    after_s: list[float]
    together_per_s: float
    mean_batch: float

    @property
    def over_alone(self) -> float:
        """How many times as many texts a second many callers get as one does."""
        return self.together_per_s * sum(self.alone_s) / len(self.alone_s)


async def _measured(server: ServerProcess, calls: int) -> dict[str, float]:
    client = EmbedderClient(str(next(server.folder.glob("bentoml-uds-*/*.sock"))), EmbedderConfig())
    texts = (f"{question} ({number})" for number, question in zip(count(), cycle(_QUESTIONS), strict=False))
    try:
        await _one_by_one(client, texts, 30)  # until BentoML's dispatcher has measured what it wants to
        rounds = [await _round(client, texts, server, calls // ROUNDS) for _ in range(ROUNDS)]
        resident = rss_bytes(server.worker())
        answered, lost = await _stopped(client, texts, server)
    finally:
        await client.aclose()
    alone_s, together_s, after_s = (
        list(chain.from_iterable(getattr(each, name) for each in rounds))
        for name in ("alone_s", "together_s", "after_s")
    )
    return {
        "alone_p50_ms": _ms(alone_s, 50),
        "alone_p95_ms": _ms(alone_s, 95),
        "alone_per_s": round(len(alone_s) / sum(alone_s), 1),
        "after_burst_p50_ms": _ms(after_s, 50),
        "after_burst_p95_ms": _ms(after_s, 95),
        "together_per_s": round(median(each.together_per_s for each in rounds), 1),
        "together_p50_ms": _ms(together_s, 50),
        "together_over_alone": round(median(each.over_alone for each in rounds), 2),
        "mean_batch": round(median(each.mean_batch for each in rounds), 2),
        "answered_while_stopping": answered,
        "lost_at_stop": lost,
        "resident_mb": round(resident / 1e6),
    }


async def _round(client: EmbedderClient, texts: Iterator[str], server: ServerProcess, calls: int) -> Round:
    alone_s = await _one_by_one(client, texts, calls)
    batches, batched = _batches(server)
    began_s = time.monotonic()
    together_s = await _together(client, texts, 10 * calls)
    took_s = time.monotonic() - began_s
    batches_after, batched_after = _batches(server)
    after_s = await _one_by_one(client, texts, calls)
    mean_batch = (batched_after - batched) / (batches_after - batches)
    return Round(alone_s, together_s, after_s, len(together_s) / took_s, mean_batch)


async def _one_by_one(client: EmbedderClient, texts: Iterator[str], calls: int) -> list[float]:
    """The seconds that each call took."""
    return [await _call(client, next(texts)) for _ in range(calls)]


async def _together(client: EmbedderClient, texts: Iterator[str], calls: int) -> list[float]:
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(_one_by_one(client, texts, calls // CALLERS)) for _ in range(CALLERS)]
    return list(chain.from_iterable(caller.result() for caller in callers))


async def _stopped(client: EmbedderClient, texts: Iterator[str], server: ServerProcess) -> tuple[int, int]:
    """How many calls that were under way were answered after the server was told to end, and how many were not."""
    calls = [asyncio.create_task(_call(client, next(texts))) for _ in range(CALLERS)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)  # so all of them have been sent
    server.terminate()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    lost = sum(isinstance(answer, RequestError) for answer in answers)
    return len(answers) - lost, lost


async def _call(client: EmbedderClient, text: str) -> float:
    began_s = time.monotonic()
    await client.embed([text], timeout_s=_TIMEOUT_S)
    return time.monotonic() - began_s


def _batches(server: ServerProcess) -> tuple[float, float]:
    """How many batches BentoML has made so far, and the requests in them."""
    samples = [
        sample for family in text_string_to_metric_families(metrics_text(server.port)) for sample in family.samples
    ]
    totals = [sum(each.value for each in samples if each.name == _BATCHES + end) for end in ("_count", "_sum")]
    return totals[0], totals[1]


def _ms(seconds: Sequence[float], percent: float) -> float:
    return round(1000 * percentile(seconds, percent), 2)


if __name__ == "__main__":
    sys.exit(main())
