"""What the engine says of itself, to whoever counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """A snapshot. Sequences, blocks and pages as they are now; all others count from the start.

    ``prompt_tokens`` are those of requests that ran; ``cached_tokens`` of these were found in the prefix cache.
    ``swaps`` of the ``preemptions`` kept their KV in the host's memory; in ``failed_steps`` something failed.
    """

    running: int = 0
    waiting: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    swaps: int = 0
    failed_steps: int = 0
    blocks: int = 0
    free_blocks: int = 0
    host_blocks: int = 0
    free_host_blocks: int = 0
    cached_pages: int = 0
    pinned_pages: int = 0
    evictions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step: how long it took, what it computed, and for whom a token came of it.

    ``first_token_s``: of each sequence whose first token it was, the time since it was submitted. ``token_gap_s``: of
    each other sequence that got one, the time since its last.
    """

    step_s: float
    num_decodes: int
    prompt_tokens: int
    first_token_s: Sequence[float]
    token_gap_s: Sequence[float]


class EngineObserver(Protocol):
    """Is told of everything, in the thread where it happens."""

    def changed(self, statistics: EngineStatistics) -> None:
        """A sequence began to wait, ran or ended. Called under the engine's lock: the last snapshot is the newest."""

    def stepped(self, report: StepReport) -> None:
        """A step ended."""


class NobodyWatches:
    """An EngineObserver that ignores it all."""

    def changed(self, statistics: EngineStatistics) -> None:
        pass

    def stepped(self, report: StepReport) -> None:
        pass
