"""Every metric: its name, unit, labels and buckets.

BentoML collects the values of all processes in files and shows them together on ``GET /metrics``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.clock import Clock, SystemClock
from genkan.engine.statistics import EngineStatistics, StepReport
from genkan.telemetry.tally import Tally

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP_SECONDS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CHUNK_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)

#: Bytes of a GPU's memory, by kind.
Memory = Callable[[], Mapping[str, int]]


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
    """What the engines do, by ``model``. One process writes them, so the newest value is the value."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        gauges = {
            "running": ("running_sequences", "Sequences in generation"),
            "waiting": ("waiting_sequences", "Sequences in the queue"),
            "blocks": ("kv_blocks", "KV blocks in all"),
            "free_blocks": ("kv_free_blocks", "KV blocks that hold nothing"),
            "host_blocks": ("kv_host_blocks", "Blocks in the machine's memory for what a GPU swaps out"),
            "free_host_blocks": ("kv_free_host_blocks", "Of these, blocks that hold nothing"),
            "cached_pages": ("prefix_pages", "Pages in the prefix cache, each a KV block"),
            "pinned_pages": ("prefix_pinned_pages", "Pages of the prefix cache that are pinned"),
        }
        counters = {
            "generated_tokens": ("generated_tokens", "Tokens generated"),
            "prompt_tokens": ("prompt_tokens", "Prompt tokens of sequences that ran"),
            "cached_tokens": ("cached_tokens", "Prompt tokens found in the prefix cache"),
            "preemptions": ("preemptions", "Sequences that had to give up their blocks and wait again"),
            "swaps": ("swaps", "Of these, sequences whose blocks were copied to the machine's memory"),
            "failed_steps": ("failed_steps", "Steps in which some sequence failed"),
            "evictions": ("prefix_evictions", "Pages of the prefix cache dropped for room"),
            "prefix_queries": ("prefix_queries", "Sequences that looked for their prompt in the prefix cache"),
            "prefix_hits": ("prefix_hits", "Sequences that found some of it"),
        }
        self.gauges = {field: _gauge(name, what, registry) for field, (name, what) in gauges.items()}
        self.counters = {
            field: Counter(f"genkan_engine_{name}", what, ["model"], registry=registry)
            for field, (name, what) in counters.items()
        }
        self.kv_use = _gauge("kv_use_ratio", "Share of the KV blocks that hold something", registry)
        self.memory = _gauge("gpu_memory_bytes", "Memory of the GPU, by what it is", registry, "kind")
        self.step = _histogram("step_seconds", "One step of the engine", _STEP_SECONDS, registry)
        self.batch = _histogram("batch_sequences", "Sequences that decode in a step", _BATCH_SIZES, registry)
        self.chunk = _histogram("prefill_tokens", "Prompt tokens computed in a step", _CHUNK_TOKENS, registry)
        self.first = _histogram("ttft_seconds", "From submission to the first token", _SECONDS, registry)
        self.gap = _histogram("itl_seconds", "Between two tokens of a sequence", _STEP_SECONDS, registry)

    def of(self, model: str, memory: Memory | None = None, clock: Clock | None = None) -> "ModelMetrics":
        """The observer of one model's engine; ``memory`` gives the GPU's, in bytes by kind, where there is one."""
        return ModelMetrics(self, model, memory, clock or SystemClock())


class ModelMetrics:
    """Writes what one model's engine does; an EngineObserver."""

    def __init__(self, all_models: EngineMetrics, model: str, memory: Memory | None, clock: Clock) -> None:
        self._gauges = {field: gauge.labels(model) for field, gauge in all_models.gauges.items()}
        self._counters = {field: counter.labels(model) for field, counter in all_models.counters.items()}
        self._kv_use = all_models.kv_use.labels(model)
        self._step, self._batch = all_models.step.labels(model), all_models.batch.labels(model)
        self._chunk = all_models.chunk.labels(model)
        self._first, self._gap = all_models.first.labels(model), all_models.gap.labels(model)
        self._read_memory, self._clock, self._read_at_s = memory, clock, -math.inf
        self._memory = partial(all_models.memory.labels, model)
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
        """See EngineObserver. The GPU's memory is looked at once a second."""
        self._step.observe(report.step_s)
        self._batch.observe(report.num_decodes)
        if report.prompt_tokens:
            self._chunk.observe(report.prompt_tokens)
        for seconds in report.first_token_s:
            self._first.observe(seconds)
        for seconds in report.token_gap_s:
            self._gap.observe(seconds)
        if self._read_memory is not None and self._clock.monotonic() - self._read_at_s >= 1:
            self._read_at_s = self._clock.monotonic()
            for kind, num_bytes in self._read_memory().items():
                self._memory(kind).set(num_bytes)


def _gauge(name: str, what: str, registry: CollectorRegistry, *labels: str) -> Gauge:
    return Gauge(f"genkan_engine_{name}", what, ["model", *labels], multiprocess_mode="mostrecent", registry=registry)


def _histogram(name: str, what: str, buckets: Sequence[float], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"genkan_engine_{name}", what, ["model"], buckets=buckets, registry=registry)
