"""What the engine says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot: sequences that run and wait now, tokens generated since the start."""

    running: int
    waiting: int
    generated_tokens: int
