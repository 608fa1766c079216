"""Where stored answers are kept: bytes by key, and epochs that make all older ones unreadable.

An epoch is 16 random bytes under a name. Whoever stores a value makes the epochs that it belongs to part of it, and
whoever reads it compares; so a purge is one ``SET`` however many answers there are, and an answer that was on its way
meanwhile is purged with the rest. An epoch that is not there is made at once, anew: if Redis evicts one, or loses it,
the answers under it are gone, and never come back.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol


class Looked(NamedTuple):
    """What is there now."""

    value: bytes | None
    epochs: bytes  # all of those that were asked for, as one


class AnswerStatistics(NamedTuple):
    """How much is kept."""

    entries: int
    n_bytes: int  # of the values, as they are kept
    is_complete: bool  # else there is more


class Answers(Protocol):
    """Values of bytes by keys of 16 bytes. What it was told first it does first."""

    def look(self, key: bytes, epochs: Sequence[str], *, timeout_s: float) -> Awaitable[Looked]:
        """The value under ``key`` and the epochs of these names, asked for now; to be awaited at once or never.

        Raises StoreError, when it is called or awaited. One round trip; one more if an epoch is not there.
        """

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> "asyncio.Future[None]":
        """Keep ``value`` for so long, sent now: what looks after that finds it.

        Raises StoreError, when it is called or awaited.
        """

    async def purge(self, epoch: str) -> None:
        """Begin a new epoch of this name. Raises StoreError."""

    async def statistics(self, *, at_most: int = 100_000) -> AnswerStatistics:
        """Count what is kept, ``at_most`` so many entries or a few more. Raises StoreError."""


def new_epoch() -> bytes:
    """16 random bytes: no epoch that was or will be."""
    return secrets.token_bytes(16)
