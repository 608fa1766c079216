"""Requests as clients see them, and what the engines do, as metrics."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, get_args

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.clock import Clock, SystemClock
from genkan.engine.grammar.observer import GrammarResult
from genkan.engine.statistics import EngineStatistics, StepReport
from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_SHOWN_EVERY_S: Final = 0.5

#: Bytes of a GPU's memory, by kind.
Memory = Callable[[], Mapping[str, int]]


class HttpMetrics:
    """Requests as clients see them. Labels are bounded: ``path`` is a known path or "other", and codes are ours.

    Who takes a request adds to ``in_flight``, by its path, and takes away again; that is shown twice a second.
    """

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._seconds = catalog.REQUEST_SECONDS.on(registry)
        self._requests = catalog.REQUESTS.on(registry)
        self._in_flight = catalog.REQUESTS_IN_FLIGHT.on(registry)
        self._errors = catalog.ERRORS.on(registry)
        self._gone = catalog.CLIENTS_GONE.on(registry)
        self._took: dict[tuple[str, int], Callable[[float], None]] = {}
        self._of = Bound().of
        self.in_flight: defaultdict[str, int] = defaultdict(int)
        self._shown: dict[str, int] = {}
        self._looked_s = -math.inf

    def finished(self, path: str, status: int, seconds: float) -> None:
        """A request was answered, or refused."""
        took = self._took.get((path, status))
        if took is None:
            requests, in_seconds = self._requests.labels(path, str(status)), self._seconds.labels(path)
            took = self._took[path, status] = partial(self._tally.took, requests, in_seconds)
        took(seconds)

    def failed(self, path: str, code: str) -> None:
        """Its client was told of an error."""
        self._tally.count(self._of(self._errors, path, code))

    def left(self, path: str) -> None:
        """Its client left before the end."""
        self._tally.count(self._of(self._gone, path))

    def looked(self, now_s: float, lag_s: float, own_lag_s: float) -> None:
        """Called by a LoopWatch, many times a second."""
        if now_s - self._looked_s >= _SHOWN_EVERY_S:
            self._looked_s = now_s
            self.show_in_flight()

    def show_in_flight(self) -> None:
        """Write how many requests are under way, where that has changed."""
        for path, number in self.in_flight.items():
            if self._shown.get(path) != number:
                self._shown[path] = number
                self._of(self._in_flight, path).set(number)


class EngineMetrics:
    """What the engines do, by ``model``. One process writes them, so the newest value is the value."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.gauges = {field: entry.on(registry) for field, entry in catalog.ENGINE_GAUGES.items()}
        self.counters = {field: entry.on(registry) for field, entry in catalog.ENGINE_COUNTERS.items()}
        self.kv_use = catalog.ENGINE_KV_USE.on(registry)
        self.memory = catalog.ENGINE_GPU_MEMORY.on(registry)
        self.step = catalog.ENGINE_STEP.on(registry)
        self.batch = catalog.ENGINE_BATCH.on(registry)
        self.chunk = catalog.ENGINE_CHUNK.on(registry)
        self.grammars = catalog.ENGINE_GRAMMARS.on(registry)
        self.grammar_seconds = catalog.ENGINE_GRAMMAR_SECONDS.on(registry)
        self.first = catalog.ENGINE_TTFT.on(registry)
        self.gap = catalog.ENGINE_ITL.on(registry)

    def of(self, model: str, memory: Memory | None = None, clock: Clock | None = None) -> "ModelMetrics":
        """The observer of one model's engine; ``memory`` gives the GPU's, in bytes by kind, where there is one."""
        return ModelMetrics(self, model, memory, clock or SystemClock())


class ModelMetrics:
    """Writes what one model's engine does; an EngineObserver and a GrammarObserver."""

    def __init__(self, all_models: EngineMetrics, model: str, memory: Memory | None, clock: Clock) -> None:
        self._gauges = {field: gauge.labels(model) for field, gauge in all_models.gauges.items()}
        self._counters = {field: counter.labels(model) for field, counter in all_models.counters.items()}
        self._kv_use = all_models.kv_use.labels(model)
        self._step, self._batch = all_models.step.labels(model), all_models.batch.labels(model)
        self._chunk = all_models.chunk.labels(model)
        self._grammars = {result: all_models.grammars.labels(model, result) for result in get_args(GrammarResult)}
        self._grammar_seconds = all_models.grammar_seconds.labels(model)
        self._first, self._gap = all_models.first.labels(model), all_models.gap.labels(model)
        self._read_memory, self._clock, self._read_at_s = memory, clock, -math.inf
        self._memory = partial(all_models.memory.labels, model)
        self._seen = EngineStatistics()
        self.changed(self._seen)  # not those of a process before us

    def changed(self, statistics: EngineStatistics) -> None:
        """See EngineObserver. Cost: 10 µs; what has not moved is not written."""
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

    def grammar_asked(self, result: GrammarResult) -> None:
        """See GrammarObserver."""
        self._grammars[result].inc()

    def grammar_compiled(self, seconds: float) -> None:
        """See GrammarObserver."""
        self._grammar_seconds.observe(seconds)
