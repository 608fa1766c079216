"""The section ``telemetry``: logs and traces."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from genkan.config.base import Section


class OtlpConfig(Section):
    """Where traces go, by OTLP over HTTP."""

    endpoint: str = Field(description="Of the collector, such as `http://collector:4318`; `/v1/traces` is added.")
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Of requests without a `traceparent`; with one, its sender has decided."
    )
    sampled_parents_per_s: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description="How many requests a second a worker traces because their `traceparent` says so; of more, it is"
        " `sample_ratio`. 0 where clients are not to decide.",
    )
    headers_env: dict[str, str] = Field(
        default_factory=dict, description="Headers for the collector, each by the environment variable that has it."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="For one batch of spans; no request waits for it.")
    service_name: str = "genkan"

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError("it must be http://host:port or https://host:port, with a path perhaps")
        return value.rstrip("/")


class TelemetryConfig(Section):
    """Logs and traces."""

    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="`auto` is text on a terminal and JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp: OtlpConfig | None = Field(default=None, description="Left out, nothing is traced.")
