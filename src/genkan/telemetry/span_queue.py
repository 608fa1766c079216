"""Spans on their way to the collector, each of which is counted as sent or as lost."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

QUEUE_SPANS: Final = 2048
_EVERY_MS: Final = 1000
_COMPLAIN_EVERY_S: Final = 60.0
_log = logging.getLogger("genkan.telemetry")


class Watched(SpanExporter):
    """An exporter whose failures are counted, and told of once a minute."""

    def __init__(
        self, inner: SpanExporter, url: str, sent: Callable[[float], None], lost: Callable[[float], None]
    ) -> None:
        self._inner = inner
        self._url = url
        self._sent, self._lost = sent, lost
        self._silent_until_s = 0.0
        #: How many spans were taken from the queue; changed by the thread that exports only.
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter; never raises."""
        self.taken += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001 - whatever the transport raises; the next batch is tried again
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._sent(len(spans))
        else:
            self.lose(len(spans))
        return result

    def lose(self, spans: int) -> None:
        """So many did not get there."""
        self._lost(spans)
        if (now_s := time.monotonic()) >= self._silent_until_s:
            self._silent_until_s = now_s + _COMPLAIN_EVERY_S
            _log.warning("spans are lost (now %d): the collector at %s does not take them", spans, self._url)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class SpanQueue(BatchSpanProcessor):
    """The SDK's, but for spans that find it full: it would drop the oldest and count none."""

    def __init__(self, exporter: Watched) -> None:
        super().__init__(exporter, max_queue_size=QUEUE_SPANS, schedule_delay_millis=_EVERY_MS)
        self._watched = exporter
        self._put = 0  # changed by the event loop's thread only

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return self._put - self._watched.taken

    def on_end(self, span: ReadableSpan) -> None:
        """See SpanProcessor."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self.waiting >= QUEUE_SPANS:
            self._watched.lose(1)
            return
        self._put += 1
        super().on_end(span)

    def abandon(self) -> None:
        """The process ends: what still waits is lost."""
        if (waiting := self.waiting) > 0:
            self._watched.lose(waiting)
