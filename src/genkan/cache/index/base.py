"""What an index of questions is: near ones of one partition, by the cosine of their vectors.

What it finds is a hint and no more: entries may be gone, purged or replaced by then. Whoever asks reads the answer,
and checks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]

#: An observation: how near another question was, and whether the entry's answer was right for it.
Seen = tuple[float, bool]
MAX_SEEN = 64  # of one entry; the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Entry:
    """A question whose answer is stored."""

    key: bytes  # 16 bytes: where the answer is kept
    partition: bytes  # 16 bytes: what else the answer depends on; of one tenant and one route
    text: str  # the question as it was sent
    vector: Vector  # (dim,), unit length
    expires_s: float  # unix
    tenant: str
    route: str


class Near(NamedTuple):
    """A question that was found."""

    key: bytes
    text: str
    cosine: float


class IndexStatistics(NamedTuple):
    """How an index stands. Of one in Redis, only its kind is known without asking."""

    kind: str  # memory, vectorset or search
    is_ready: bool
    entries: int
    partitions: int
    graphs: int  # partitions that are searched by one
    held_bytes: int  # of vectors, in this process, without graphs


class VectorIndex(Protocol):
    """For one event loop. Nothing but ``start`` may be called before it, and nothing raises: failures are counted."""

    @property
    def is_ready(self) -> bool:
        """Whether it knows what others stored before it started. Until then it may find less, and nothing wrong."""

    @property
    def size(self) -> int:
        """How many entries it knows; 0 where they are not in this process."""

    async def start(self) -> None:
        """Begin. What others stored is read in the background, so this takes at most as long as to connect."""

    async def aclose(self) -> None:
        """End all that it does in the background."""

    async def add(self, entry: Entry) -> None:
        """Take it in, for all workers; one with its key is replaced. This worker finds it already."""

    async def search(self, partition: bytes, vector: Vector, *, k: int, timeout_s: float) -> list[Near]:
        """The ``k`` nearest of the partition that have not expired, best first; [] also on any failure.

        ``vector`` has unit length. An index in this process needs no time to speak of, and ignores ``timeout_s``.
        """

    async def remove(self, key: bytes, partition: bytes) -> None:
        """Forget it, for all workers. Nothing happens if it is not there."""

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        """Forget all that is of the tenant, and all that is of the route; without either everything. For all."""

    def seen(self, key: bytes) -> Sequence[Seen]:
        """What was observed of an entry, oldest first, at most MAX_SEEN; nothing of one that is not known.

        Where entries are not in this process it is known of those that a search found lately.
        """

    async def saw(self, key: bytes, partition: bytes, similarity: float, same: bool) -> None:
        """Add an observation of an entry, for all workers; it is in ``seen`` shortly after."""

    def statistics(self) -> IndexStatistics:
        """How it stands. Takes no time to speak of."""
