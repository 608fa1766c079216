"""What the fault upstream saw, written down where no gateway can touch it."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from faults.request import Request

#: ``answered``: everything that the fault has to say was said. ``broken off``: this side cut the connection on purpose.
#: ``client gone``: the other side did, before the end. ``down``: refused in an outage.
Outcome = Literal["running", "answered", "broken off", "client gone", "down"]


@dataclass(slots=True)
class Attempt:
    """One request and what became of it. Times are the system's monotonic clock, the same in every process."""

    model: str
    stream: bool
    #: Counts the requests for this model, from 1.
    number: int
    #: Counts the connections of this upstream, from 1.
    connection: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    began_at_s: float
    ended_at_s: float | None = None
    outcome: Outcome = "running"
    status: int | None = None
    #: Tokens of the canonical text that were written to the socket, in plain text.
    tokens: int = 0
    #: Tokens of the prompt and of the answer, as the usage says that was written to the socket in one piece.
    usage: tuple[int, int] | None = None

    def end(self, outcome: Outcome) -> None:
        """The first end counts."""
        if self.outcome == "running":
            self.outcome = outcome
            self.ended_at_s = time.monotonic()


class Ledger:
    """Requests for generation, other requests (``probes``) and hits of the redirect's target, each in order."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.probes: list[Attempt] = []
        self.canary_hits: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()

    def begin(self, request: Request, connection: int) -> Attempt:
        generates = request.method == "POST"
        name = request.model if generates else f"{request.method} {request.path}"
        self._counts[name] += 1
        attempt = Attempt(
            model=request.model,
            stream=request.stream,
            number=self._counts[name],
            connection=connection,
            path=request.path,
            headers=request.headers,
            body=request.body,
            began_at_s=time.monotonic(),
        )
        (self.attempts if generates else self.probes).append(attempt)
        return attempt

    def as_json(self, what: Literal["attempts", "probes"]) -> list[dict[str, Any]]:
        return [asdict(attempt) for attempt in (self.attempts if what == "attempts" else self.probes)]
