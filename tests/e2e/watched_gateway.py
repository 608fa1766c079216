"""A counting gateway, the collector that its spans go to, and what its log says."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.counting_gateway import CountingGateway, model, running_counting_gateway
from e2e.live_server import wait_until
from otlp_receiver import ReceivedSpan, Receiver, running_receiver

SOON_S: Final = 20.0
#: The collector's; it is to show nowhere but there.
COLLECTORS_KEY: Final = "collector-canary-5d8f2a6c9b3e"
THREE_AN_HOUR: Final = {"limit": 3, "window_s": 3600, "algorithm": "sliding_window"}
UNCACHED: Final = {"exact": "off"}
SETTINGS: Final[dict[str, Any]] = {
    "server": {"workers": 2, "max_lag_s": 0},  # nobody is to be refused because the machine is busy
    "models": [model("ok"), model("slow", "slow-ok"), model("broken", "500-for-ever")],
    "routes": [
        {"alias": "plain", "chain": ["ok"], "cache": UNCACHED},
        {"alias": "kept", "chain": ["ok"], "cache": {"exact": "on"}},
        {"alias": "falls", "chain": ["broken", "ok"], "retry": {"max_retries": 0}, "cache": UNCACHED},
        {"alias": "slowly", "chain": ["slow"], "cache": UNCACHED},
        {"alias": "open", "chain": ["ok"], "log_content": "redacted"},
    ],
    "tenants": [{"name": "small", "limits": {"requests": THREE_AN_HOUR}}],
    "prices": {"models": [{"model": "ok", "input": 2, "output": 8}]},
}


@dataclass(frozen=True)
class Watched:
    """A gateway and the collector that its spans go to: those of requests whose ``traceparent`` says so."""

    gateway: CountingGateway
    receiver: Receiver

    def line(self, request_id: str) -> dict[str, Any]:
        """A request's line in the log."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            lines = self.gateway.server.log.splitlines()
            found.extend(json.loads(line) for line in lines if line.startswith("{") and f'"id":"{request_id}"' in line)
            return bool(found)

        wait_until(is_there, SOON_S, "the line is written")
        return found[0]

    def spans(self, trace: str, n: int) -> list[ReceivedSpan]:
        """The ``n`` spans of a trace, the request's first."""

        def of_trace() -> list[ReceivedSpan]:
            return sorted((span for span in self.receiver.spans if span.trace == trace), key=lambda span: span.kind)

        wait_until(lambda: len(of_trace()) >= n, SOON_S, "the spans have come")
        return of_trace()


@contextmanager
def running_watched_gateway(folder: Path) -> Generator[Watched, None, None]:
    """All of it, ready."""
    with pytest.MonkeyPatch.context() as patch, running_receiver() as receiver:
        patch.setenv("COLLECTORS_KEY", COLLECTORS_KEY)
        otlp = {
            "endpoint": f"http://127.0.0.1:{receiver.port}",
            "headers_env": {"authorization": "COLLECTORS_KEY"},
            "timeout_s": 2.0,
            "sample_ratio": 0.0,
            "sampled_parents_per_s": 1000,
        }
        with running_counting_gateway(folder, telemetry={"log_level": "debug", "otlp": otlp}, **SETTINGS) as gateway:
            yield Watched(gateway, receiver)
