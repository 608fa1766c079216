"""Traces, against a collector that decodes what it gets."""

import logging
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from hand_clock import HandClock
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_receiver import Receiver, running_receiver
from prometheus_client import CollectorRegistry

from genkan.config import OtlpConfig, TelemetryConfig
from genkan.errors import ConfigError
from genkan.telemetry.otlp import OtlpTracing
from genkan.telemetry.span_queue import QUEUE_SPANS
from genkan.telemetry.tracing import tracing_of
from genkan.wire.usage import Usage

PATH = "/v1/chat/completions"
FIELDS: dict[str, Any] = {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "finish_reason": "stop"}


def tracing(receiver: Receiver, **settings: Any) -> OtlpTracing:
    config = OtlpConfig(endpoint=f"http://127.0.0.1:{receiver.port}", **settings)
    return OtlpTracing(config, {"x-key": "k"}, CollectorRegistry())


def is_sampled(traceparent: str) -> bool:
    """By its flags; another of them says that the trace's id is random."""
    return bool(int(traceparent.rpartition("-")[2], 16) & 1)


def test_what_waits_is_handed_over_at_the_end() -> None:
    with running_receiver() as receiver:
        traces = tracing(receiver, service_name="here")
        trace = traces.begun("POST", PATH, [])
        traceparent = trace.attempt_begun("req.1", "m@up").decode()
        trace.attempt_ended("req.1", "ok", Usage(3, 4))
        trace.attempt_ended("req.1", "ok", None)  # it is over already
        trace_id = traces.ended(trace, 200, ("chat", "route"), FIELDS)
        traces.close()
        client, server = receiver.spans
        assert (server.parent, client.parent, server.trace) == ("", server.id, trace_id)
        assert traceparent.startswith(f"00-{trace_id}-{client.id}-")
        assert is_sampled(traceparent)
        assert client.attributes["gen_ai.usage.output_tokens"] == 4
        assert (receiver.services, receiver.headers[0]["x-key"]) == ({"here"}, "k")


@pytest.mark.parametrize(("ratio", "flags", "spans"), [(0.0, None, 0), (0.0, "01", 2), (1.0, "00", 0), (1.0, None, 2)])
def test_who_sends_a_traceparent_has_decided_and_else_the_ratio_does(
    ratio: float, flags: str | None, spans: int
) -> None:
    given = f"00-{7:032x}-{9:016x}-{flags}".encode()
    with running_receiver() as receiver:
        traces = tracing(receiver, sample_ratio=ratio)
        trace = traces.begun("POST", PATH, [] if flags is None else [(b"traceparent", given)])
        sent = trace.attempt_begun("req.1", "m@up").decode()
        trace.attempt_ended("req.1", "ok", None)
        trace_id = traces.ended(trace, 200, ("chat", "route"), {})
        traces.close()
        assert len(receiver.spans) == spans
    assert sent.split("-")[1] == trace_id
    assert is_sampled(sent) == (spans > 0)
    assert (trace_id == f"{7:032x}") == (flags is not None)


@pytest.mark.parametrize(
    ("status", "error", "failed"), [(200, "upstream_error", True), (503, "x", True), (429, "x", False)]
)
def test_an_error_of_ours_fails_the_span_and_a_clients_does_not(status: int, error: str, failed: bool) -> None:
    with running_receiver() as receiver:
        traces = tracing(receiver)
        traces.ended(traces.begun("POST", PATH, []), status, ("chat", "r"), {"error": error})
        traces.close()
        (span,) = receiver.spans
    assert (span.failed, span.attributes["error.type"]) == (failed, error)


def test_a_collector_that_refuses_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    with running_receiver() as receiver, caplog.at_level(logging.DEBUG):
        receiver.status = 400
        traces = OtlpTracing(OtlpConfig(endpoint=f"http://127.0.0.1:{receiver.port}"), {}, registry)
        for _ in range(3):
            traces.ended(traces.begun("GET", "/", []), 200, None, {})
            traces._provider.force_flush()
        traces.close()
    assert registry.get_sample_value("genkan_trace_spans_total", {"outcome": "lost"}) == 3.0
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["genkan.telemetry"]


def test_a_client_forces_only_so_many_to_be_sampled() -> None:
    exporter, clock = InMemorySpanExporter(), HandClock()
    config = OtlpConfig(endpoint="http://127.0.0.1:1", sample_ratio=0.0, sampled_parents_per_s=3)
    traces = OtlpTracing(config, {}, CollectorRegistry(), exporter, clock)

    def ask(n: int) -> list[bool]:
        # By the ratio these ids would all be sampled: it looks at their last 64 bits.
        headers = [[(b"traceparent", f"00-{1 << 64 | 1:032x}-{9:016x}-01".encode())] for _ in range(n)]
        begun = [traces.begun("POST", PATH, each) for each in headers]
        sent = [trace.attempt_begun("req.1", "m@up").decode() for trace in begun]
        for trace in begun:
            traces.ended(trace, 200, None, {})
        return [is_sampled(each) for each in sent]

    assert ask(5) == [True, True, True, False, False]
    clock.advance(1.0)
    assert ask(4) == [True, True, True, False]
    traces.close()
    assert len(exporter.get_finished_spans()) == 6


class Stuck(SpanExporter):
    """A collector that takes no batch to its end until it is told to."""

    def __init__(self) -> None:
        self.go_on, self.reached = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.reached.set()
        assert self.go_on.wait(30)
        return SpanExportResult.SUCCESS


def test_what_a_full_queue_drops_is_lost_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    registry, exporter = CollectorRegistry(), Stuck()
    traces = OtlpTracing(OtlpConfig(endpoint="http://127.0.0.1:1"), {}, registry, exporter)

    def ask(n: int) -> None:
        for _ in range(n):
            traces.ended(traces.begun("GET", "/", []), 200, None, {})

    def value(outcome: str) -> float | None:
        return registry.get_sample_value("genkan_trace_spans_total", {"outcome": outcome})

    with caplog.at_level(logging.WARNING):
        ask(512)
        assert exporter.reached.wait(30)
        ask(QUEUE_SPANS + 600)  # the thread may have taken a smaller batch than the first 512
    lost = value("lost")
    assert lost is not None
    assert 88 <= lost <= 600
    assert len(caplog.records) == 1
    exporter.go_on.set()
    traces.close()
    assert value("sent") == 512 + QUEUE_SPANS + 600 - lost
    assert value("lost") == lost


def test_a_header_whose_variable_is_not_set_is_an_error() -> None:
    config = TelemetryConfig(otlp=OtlpConfig(endpoint="http://h:4318", headers_env={"a": "NOT_SET"}))
    with pytest.raises(ConfigError, match="NOT_SET"):
        tracing_of(config, {})


def test_without_a_collector_nothing_is_traced_and_the_exporter_is_not_loaded() -> None:
    code = (
        "import sys\n"
        "from genkan.config import TelemetryConfig\n"
        "from genkan.telemetry.tracing import tracing_of\n"
        "assert tracing_of(TelemetryConfig(), {}) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.fixture(autouse=True)
def sdk_logs_as_before() -> Generator[None, None, None]:
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://h:4317", "http://", "http://u:p@h", "http://h?x=1"])
def test_an_endpoint_is_a_url_without_secrets(endpoint: str) -> None:
    with pytest.raises(ValueError, match="it must be http"):
        OtlpConfig(endpoint=endpoint)
