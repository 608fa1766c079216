"""What is sent, what came back, and the times that follow from it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


class Order(NamedTuple):
    """One request to be made, and the arm of the comparison that it counts for."""

    arm: str
    request: bytes


@dataclass(slots=True)
class Seen:
    """What the connection brought; times are readings of one monotonic clock, in seconds.

    ``token_s`` has when each piece of text came, none for a whole answer. ``cache`` is the server's word on stored
    answers, empty where it has none. Token counts are the server's ``usage``; None where it gave none.
    """

    ended_s: float = 0.0
    error: str | None = None
    status: int = 0
    token_s: list[float] = field(default_factory=list)
    cache: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cost_usd: float | None = None


@dataclass(slots=True)
class Outcome:
    """One request: when it was due, when the client came to it, and what came of it.

    All durations count from when it was due, or from when it was sent if that was sooner by a tick of a timer. A
    client or a server that stalls therefore shows in every request that should have been sent meanwhile.
    """

    arm: str
    due_s: float
    started_s: float
    seen: Seen

    @property
    def delay_s(self) -> float:
        """How late the client was: its own fault, never the server's."""
        return max(0.0, self.started_s - self.due_s)

    @property
    def latency_s(self) -> float:
        """To the end of the answer."""
        return self.seen.ended_s - self._began_s

    @property
    def ttft_s(self) -> float | None:
        """To the first piece of text; None where the answer was not streamed."""
        return self.seen.token_s[0] - self._began_s if self.seen.token_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Between each piece of text and the next (ITL): one fewer than pieces."""
        return [after - before for before, after in pairwise(self.seen.token_s)]

    @property
    def tpot_s(self) -> float | None:
        """The mean time of each token after the first, tokens as ``usage`` counts them; None below two tokens."""
        times = self.seen.token_s
        tokens = self.seen.completion_tokens or len(times)
        return (times[-1] - times[0]) / (tokens - 1) if len(times) > 1 and tokens > 1 else None

    @property
    def _began_s(self) -> float:
        return min(self.due_s, self.started_s)
