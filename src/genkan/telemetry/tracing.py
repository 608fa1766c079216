"""Traces of requests, where the configuration asks for them. Without, nothing of OpenTelemetry is imported."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from genkan.config import TelemetryConfig
from genkan.errors import ConfigError
from genkan.telemetry.gen_ai_metrics import Generation
from genkan.wire.trace import RequestTrace


class Tracing(Protocol):
    """Makes one span for each request, and one for each of its attempts. Nothing that it does waits."""

    def begun(self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]]) -> RequestTrace:
        """A request has come; ``path`` is one of the path table, or "other". ``ended`` must follow."""

    def ended(
        self, trace: RequestTrace, status: int, generation: Generation | None, fields: Mapping[str, object]
    ) -> str:
        """It is over; the id of its trace. ``fields`` are those of its line in the log."""

    def close(self) -> None:
        """Hand over what waits, for at most two seconds."""


def tracing_of(config: TelemetryConfig, environ: Mapping[str, str]) -> Tracing | None:
    """What ``config`` asks for; None where that is nothing. Raises ConfigError for a header whose variable is unset."""
    if config.otlp is None:
        return None
    from genkan.telemetry.otlp import OtlpTracing

    headers = {}
    for header, variable in config.otlp.headers_env.items():
        value = environ.get(variable, "")
        if not value:
            raise ConfigError("telemetry.otlp.headers_env", f"the environment variable {variable} is not set")
        headers[header] = value
    return OtlpTracing(config.otlp, headers)
