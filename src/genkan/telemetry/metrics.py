"""Every metric: its name, unit, labels and buckets.

BentoML collects the values of all processes in files and shows them together on ``GET /metrics``.
"""

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.engine.statistics import EngineStatistics, StepReport
from genkan.telemetry.tally import Tally

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP_SECONDS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CHUNK_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)


class HttpMetrics:
    """Requests as clients see them. Labels are bounded: ``path`` is a known path or "other"."""

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._seconds = Histogram(
            "genkan_request_seconds",
            "From a request's headers to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Counter("genkan_requests", "Requests answered", ["path", "status"], registry=registry)

        self._took: dict[tuple[str, int], Callable[[float], None]] = {}

    def finished(self, path: str, status: int, seconds: float) -> None:
        took = self._took.get((path, status))
        if took is None:
            requests, in_seconds = self._requests.labels(path, str(status)), self._seconds.labels(path)
            took = self._took[path, status] = partial(self._tally.took, requests, in_seconds)
        took(seconds)


class EngineMetrics:
    """What the engine does; an EngineObserver. One process writes them, so the newest value is the value."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        gauges = {
            "running": ("running_sequences", "Sequences in generation"),
            "waiting": ("waiting_sequences", "Sequences in the queue"),
            "blocks": ("kv_blocks", "KV blocks in all"),
            "free_blocks": ("kv_free_blocks", "KV blocks that hold nothing"),
            "cached_pages": ("prefix_pages", "Pages in the prefix cache, each a KV block"),
            "pinned_pages": ("prefix_pinned_pages", "Pages of the prefix cache that are pinned"),
        }
        counters = {
            "generated_tokens": ("generated_tokens", "Tokens generated"),
            "prompt_tokens": ("prompt_tokens", "Prompt tokens of sequences that ran"),
            "cached_tokens": ("cached_tokens", "Prompt tokens found in the prefix cache"),
            "preemptions": ("preemptions", "Sequences that had to give up their blocks and wait again"),
            "evictions": ("prefix_evictions", "Pages of the prefix cache dropped for room"),
            "prefix_queries": ("prefix_queries", "Sequences that looked for their prompt in the prefix cache"),
            "prefix_hits": ("prefix_hits", "Sequences that found some of it"),
        }
        self._gauges = {
            field: _gauge(f"genkan_engine_{name}", what, registry) for field, (name, what) in gauges.items()
        }
        self._counters = {
            field: Counter(f"genkan_engine_{name}", what, registry=registry) for field, (name, what) in counters.items()
        }
        self._kv_use = _gauge("genkan_engine_kv_use_ratio", "Share of the KV blocks that hold something", registry)
        self._step = _histogram("step_seconds", "One step of the engine", _STEP_SECONDS, registry)
        self._batch = _histogram("batch_sequences", "Sequences that decode in a step", _BATCH_SIZES, registry)
        self._chunk = _histogram("prefill_tokens", "Prompt tokens computed in a step", _CHUNK_TOKENS, registry)
        self._first = _histogram("ttft_seconds", "From submission to the first token", _SECONDS, registry)
        self._gap = _histogram("itl_seconds", "Between two tokens of a sequence", _STEP_SECONDS, registry)
        self._seen = EngineStatistics()
        self.changed(self._seen)  # not those of a process before us

    def changed(self, statistics: EngineStatistics) -> None:
        """See EngineObserver. Cost: 20 µs; what has not moved is not written."""
        seen, self._seen = self._seen, statistics
        for field, gauge in self._gauges.items():
            value = getattr(statistics, field)
            if value != getattr(seen, field) or statistics is seen:
                gauge.set(value)
        for field, counter in self._counters.items():
            if more := getattr(statistics, field) - getattr(seen, field):
                counter.inc(more)
        if statistics.blocks:
            self._kv_use.set(1 - statistics.free_blocks / statistics.blocks)

    def stepped(self, report: StepReport) -> None:
        """See EngineObserver."""
        self._step.observe(report.step_s)
        self._batch.observe(report.num_decodes)
        if report.prompt_tokens:
            self._chunk.observe(report.prompt_tokens)
        for seconds in report.first_token_s:
            self._first.observe(seconds)
        for seconds in report.token_gap_s:
            self._gap.observe(seconds)


def _gauge(name: str, what: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, what, multiprocess_mode="mostrecent", registry=registry)


def _histogram(name: str, what: str, buckets: Sequence[float], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"genkan_engine_{name}", what, buckets=buckets, registry=registry)
