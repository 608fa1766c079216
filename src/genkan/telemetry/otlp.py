"""Spans to a collector, by OTLP over HTTP.

A queue holds at most 2,048 spans, which the SDK hands over in a thread of its own; what is too much is dropped, and
counted. So a collector that is down or slow costs a request nothing. It costs the log one line a minute, not the SDK's
several a batch. Prompts, answers and keys are in no span.

Sources: OpenTelemetry's semantic conventions for HTTP and for generative AI; W3C Trace Context.
"""

import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from prometheus_client import REGISTRY, CollectorRegistry

from genkan import __version__
from genkan.clock import Clock, SystemClock
from genkan.config import OtlpConfig
from genkan.telemetry import catalog
from genkan.telemetry.gen_ai_metrics import PROVIDER, Generation
from genkan.telemetry.sampling import sampler_of
from genkan.telemetry.span_queue import SpanQueue, Watched
from genkan.wire.trace import RequestTrace, read_traceparent
from genkan.wire.usage import Usage

_TRACES_PATH: Final = "/v1/traces"
_CLOSE_S: Final = 2.0
_TRACEPARENT: Final = b"traceparent"
#: What the log has of a request, and its span too; neither texts nor keys.
_OWN: Final = ("tenant", "cache", "attempts", "fallback", "hedged", "arm", "stream", "client_gone")
_USAGE: Final = (("gen_ai.usage.input_tokens", "prompt_tokens"), ("gen_ai.usage.output_tokens", "completion_tokens"))


class OtlpTracing:
    """Traces requests. A Tracing.

    Cost: 65 µs for a request that is sampled, and 60 µs in the exporter's thread; 5 µs for one that is not.
    """

    def __init__(
        self,
        config: OtlpConfig,
        headers: Mapping[str, str],
        registry: CollectorRegistry = REGISTRY,
        exporter: SpanExporter | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``exporter`` is for tests; without it spans go to ``config.endpoint`` with ``headers``."""
        _silence_the_sdk()
        url = config.endpoint if config.endpoint.endswith(_TRACES_PATH) else config.endpoint + _TRACES_PATH
        inner = exporter or OTLPSpanExporter(
            endpoint=url, headers=dict(headers), timeout=config.timeout_s, compression=Compression.Gzip
        )
        exports = catalog.TRACE_SPANS.on(registry)
        watched = Watched(inner, url, exports.labels("sent").inc, exports.labels("lost").inc)
        resource = {"service.name": config.service_name, "service.version": __version__,
                    "service.instance.id": str(uuid.uuid4())}  # fmt: skip
        self._provider = TracerProvider(
            resource=Resource(resource),
            sampler=sampler_of(config.sample_ratio, config.sampled_parents_per_s, clock or SystemClock()),
            shutdown_on_exit=False,
        )
        self._queue = SpanQueue(watched)
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("genkan", __version__)

    def begun(self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]]) -> "_Trace":
        """See Tracing."""
        given = next((value for name, value in headers if name == _TRACEPARENT), None)
        return _Trace(self._tracer, method[:20], path, _parent(given))

    def ended(
        self, trace: RequestTrace, status: int, generation: Generation | None, fields: Mapping[str, object]
    ) -> str:
        """See Tracing."""
        assert isinstance(trace, _Trace)
        return trace.end(status, generation, fields)

    def close(self) -> None:
        """See Tracing."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
        self._queue.abandon()


class _Trace:
    """The span of a request, and those of its attempts. A RequestTrace."""

    __slots__ = ("_attempts", "_context", "_operation", "_span", "_tracer")

    def __init__(self, tracer: Tracer, method: str, path: str, parent: Context) -> None:
        self._tracer = tracer
        self._span = span = tracer.start_span(
            f"{method} {path}",
            parent,
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": path},
        )
        self._operation = "text_completion" if path == "/v1/completions" else "chat"
        self._context = set_span_in_context(span)
        self._attempts: dict[str, Span] = {}

    def attempt_begun(self, call: str, deployment: str) -> bytes:
        """See RequestTrace."""
        span = self._span
        if span.is_recording():
            model, _, upstream = deployment.rpartition("@")
            names = {
                "gen_ai.operation.name": self._operation,
                "gen_ai.provider.name": upstream,
                "gen_ai.request.model": model,
                "genkan.deployment": deployment,
                "genkan.call": call,
            }
            span = self._tracer.start_span(f"{self._operation} {model}", self._context, SpanKind.CLIENT, names)
            self._attempts[call] = span
        return _traceparent(span.get_span_context())

    def attempt_ended(self, call: str, state: str, usage: Usage | None) -> None:
        """See RequestTrace."""
        span = self._attempts.pop(call, None)
        if span is None:
            return
        if usage is not None:
            span.set_attributes(
                {"gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.completion}
            )
        if state != "ok":
            _fail(span, state)
        span.end()

    def end(self, status: int, generation: Generation | None, fields: Mapping[str, object]) -> str:
        """The request is over; the id of its trace."""
        span = self._span
        if span.is_recording():
            span.set_attributes({"http.response.status_code": status, **_own(fields)})
            if generation is not None:
                span.set_attributes(_attributes(generation, fields))
            error = fields.get("error")
            if error is not None and (status >= 500 or status == 200):  # 200: within its stream
                _fail(span, str(error))
            elif error is not None:
                span.set_attribute("error.type", str(error))
            span.end()
        return f"{span.get_span_context().trace_id:032x}"


def _silence_the_sdk() -> None:
    """It logs each failure of each batch several times; we say it ourselves."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)


def _parent(traceparent: bytes | None) -> Context:
    read = read_traceparent(traceparent)
    if read is None:
        return Context()
    trace, span, flags = read
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), Context())


def _traceparent(context: SpanContext) -> bytes:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode("ascii")


def _fail(span: Span, what: str) -> None:
    span.set_attribute("error.type", what)
    span.set_status(Status(StatusCode.ERROR))


def _own(fields: Mapping[str, object]) -> dict[str, AttributeValue]:
    own: dict[str, AttributeValue] = {}
    for name in _OWN:
        value = fields.get(name)
        if isinstance(value, str | bool | int | float):
            own[f"genkan.{name}"] = value
    return own


def _attributes(generation: Generation, fields: Mapping[str, object]) -> dict[str, AttributeValue]:
    operation, asked = generation
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": asked,
    }
    if isinstance(model := fields.get("model"), str):
        found["gen_ai.response.model"] = model
    if isinstance(reason := fields.get("finish_reason"), str):
        found["gen_ai.response.finish_reasons"] = [reason]
    usage: Any = fields.get("usage")
    for attribute, name in _USAGE if isinstance(usage, dict) else ():
        if name in usage:
            found[attribute] = usage[name]
    return found
