"""One side of an experiment, as the requests that run on it see it."""

from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """How one request went."""

    ok: bool  # False: what its arm tries has failed it, whoever answered in the end
    seconds: float  # from admission to the end of the answer
    is_stream: bool
    ttft_s: float | None  # to the first token of a stream, from admission
    cost_nano_usd: int | None  # None: not known, or nothing was answered
    tokens: int | None  # of the answer


class Arm(Protocol):
    """Where requests of a chain tell how they went. Called while they wait, so quick."""

    name: str  # "control" or "canary"

    def ended(self, sample: Sample) -> None:
        """A request has ended that its client did not leave."""
