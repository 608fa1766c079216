"""The fault upstream in a process of its own, for tests of servers that are in processes of their own, too."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

_TESTS = Path(__file__).parents[1]
_STOP_S = 10.0


class RunningUpstream:
    """A fault upstream to be steered from outside."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/_", timeout=10, trust_env=False)

    @property
    def base_url(self) -> str:
        """As OpenAI's clients want it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def attempts(self, model: str | None = None) -> list[dict[str, Any]]:
        """What was asked of it, or of one of its models, in order: see ``faults.ledger.Attempt``."""
        every: list[dict[str, Any]] = self._get("/attempts")
        return [attempt for attempt in every if model in (None, attempt["model"])]

    def probes(self) -> list[dict[str, Any]]:
        """Requests that generate nothing, such as for its models."""
        return list(self._get("/probes"))

    def canary_hits(self) -> list[dict[str, Any]]:
        """Who followed the redirect."""
        return list(self._get("/canary-hits"))

    def connections(self) -> dict[str, int]:
        """How many are ``open``, and how many were ever ``accepted``."""
        return dict(self._get("/connections"))

    def reset(self) -> None:
        """Forget everything, and end every outage."""
        self._post("/reset", {})

    def down(self, model: str = "", *, seconds: float | None = None, mode: str = "reset") -> None:
        """Down for so long, or until told: all of it, or one model."""
        length = {"until_told": True} if seconds is None else {"seconds": seconds}
        self._post("/down", {"model": model, "mode": mode, **length})

    def up(self, model: str = "") -> None:
        """The end of an outage."""
        self._post("/down", {"model": model, "up": True})

    def close(self) -> None:
        self._client.close()

    def _get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def _post(self, path: str, body: dict[str, Any]) -> None:
        self._client.post(path, json=body).raise_for_status()


@contextmanager
def running_upstream(port: int = 0) -> Generator[RunningUpstream, None, None]:
    """A fault upstream that listens. Its process ends with the block."""
    command = [sys.executable, "-m", "faults.upstream", "--port", str(port)]
    with subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            with closing(RunningUpstream(int(process.stdout.readline()))) as upstream:
                yield upstream
        finally:
            process.terminate()
            process.wait(_STOP_S)
