"""What has come of one attempt at an answer, for any number of readers, each at its own pace.

One writer puts in what arrives; whoever comes later reads from the first batch on. No I/O.

**How much it holds.** All of it up to `KEPT_BYTES`; a longer answer can be joined by nobody new, and what all readers
have is dropped. The writer is held back while the quickest reader is `AHEAD_BYTES` behind, as nobody is slowed by that,
and while the slowest is `KEPT_BYTES` behind. So a slow reader slows the others only in answers that are longer still.

Cost: a batch about 1 µs, and 1 µs more for each reader that waits for it.
"""

import asyncio
from typing import Any

from genkan.cache.collector import Collected
from genkan.gateway.shared_error import twin

AHEAD_BYTES = 256 << 10
KEPT_BYTES = 4 << 20


class Recording:
    """One attempt at an answer: who gives it, its batches or its body, and how it ended."""

    __slots__ = (
        "_ended", "_expected", "_furthest_bytes", "_readers", "_total_bytes", "_waiting", "_writer", "batches", "body",
        "collected", "deployment", "dropped", "error", "is_over", "model", "usage", "waits_for_end",
    )  # fmt: skip

    def __init__(self) -> None:
        self.deployment = ""  # who gives it, once it has begun
        self.model = ""
        self.body: bytes | None = None
        self.batches: list[list[bytes]] = []  # of a stream, but for so many that were dropped
        self.dropped = 0
        self.is_over = False
        self.error: BaseException | None = None  # what ended it too early
        self.collected: Collected | None = None  # at the end of one that can be given in another form
        self.usage: dict[str, Any] | None = None  # as its upstream says, as far as it has
        self.waits_for_end = 0  # so many wait for the end only, and must not wait for others to read
        self._total_bytes = 0
        self._furthest_bytes = 0  # of the quickest reader
        self._readers: set[Reader] = set()
        self._expected = 0  # so many will read as soon as there is something
        self._waiting: list[asyncio.Future[None]] = []  # for anything new
        self._ended: list[asyncio.Future[None]] = []  # for the end
        self._writer: asyncio.Future[None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was dropped, so that it can be read from its beginning."""
        return not self.dropped and self._total_bytes <= KEPT_BYTES

    # the writer's

    def begin(self, deployment: str, model: str, body: bytes | None = None) -> None:
        """Say who answers. ``body`` is all of an answer that is no stream."""
        self.deployment, self.model, self.body = deployment, model, body

    async def take(self, batch: list[bytes]) -> None:
        """Put in what came; returns when more may come."""
        self.batches.append(batch)
        self._total_bytes += sum(map(len, batch))
        if self._waiting:
            _wake(self._waiting)
        if self._total_bytes > KEPT_BYTES:
            self._drop()
        if self._total_bytes - self._furthest_bytes > AHEAD_BYTES or self._total_bytes > KEPT_BYTES:
            while self._is_ahead():
                self._writer = asyncio.get_running_loop().create_future()
                await self._writer

    def end(self, collected: Collected | None, usage: dict[str, Any] | None) -> None:
        """All of it has come."""
        self.collected, self.usage = collected, usage
        self._end()

    def fail(self, error: BaseException) -> None:
        """It has ended too early. Does nothing once it is over."""
        if not self.is_over:
            self.error = error
            self._end()

    def _end(self) -> None:
        self.is_over = True
        _wake(self._waiting)
        _wake(self._ended)

    def _is_ahead(self) -> bool:
        read = [reader.read_bytes for reader in self._readers]
        if self._expected:
            read.append(0)
        if not read:
            return False  # whoever is left waits for its end
        if self._total_bytes - min(read) > KEPT_BYTES:
            return True
        return not self.waits_for_end and self._total_bytes - max(read) > AHEAD_BYTES

    def _drop(self) -> None:
        """Drop what all readers have: nobody new may come."""
        if self._expected:
            return
        kept = min((reader.position for reader in self._readers), default=self.dropped + len(self.batches))
        del self.batches[: kept - self.dropped]
        self.dropped = max(self.dropped, kept)

    # the readers'

    async def something(self) -> None:
        """Returns when there is something of it, or its end; who then wants to read it joins at once."""
        self._expected += 1
        try:
            while not (self.is_over or self.batches):
                await _turn(self._waiting)
        finally:
            self._expected -= 1
            self.room()

    async def over(self) -> None:
        """Returns at its end."""
        self.waits_for_end += 1
        self.room()
        try:
            while not self.is_over:
                await _turn(self._ended)
        finally:
            self.waits_for_end -= 1

    async def more(self) -> None:
        """Returns when something has come, or the end."""
        await _turn(self._waiting)

    def join(self) -> "Reader":
        """A reader from the first batch on; close it. Only while `is_whole`."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def leave(self, reader: "Reader") -> None:
        """See Reader.close."""
        self._readers.discard(reader)
        self.room()

    def read(self, reader: "Reader") -> list[bytes] | None:
        """All that has come since it read last, as one batch; None if nothing has."""
        batches = self.batches[reader.position - self.dropped :] if reader.position else self.batches
        if not batches:
            return None
        reader.position += len(batches)
        reader.read_bytes = self._furthest_bytes = self._total_bytes
        self.room()
        return batches[0] if len(batches) == 1 else [payload for batch in batches for payload in batch]

    def room(self) -> None:
        """Let the writer look whether it may go on."""
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


class Reader:
    """Reads a recording from its first batch to its end."""

    __slots__ = ("_recording", "position", "read_bytes", "state")

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.position = 0  # so many batches it has
        self.read_bytes = 0
        self.state = (
            "client_gone"  # how it ended for this reader, as the ledger calls it: so, until it has read the end
        )

    async def next(self) -> list[bytes] | None:
        """All that has come since; waits for it if there is nothing yet. None at the end.

        Raises a twin of what the recording failed with, once all that came before has been read.
        """
        recording = self._recording
        while (batch := recording.read(self)) is None:
            if recording.error is not None:
                error = twin(recording.error)
                self.state = error.outcome
                raise error
            if recording.is_over:
                self.state = "ok"
                return None
            await recording.more()
        return batch

    def close(self) -> None:
        """It reads no more, and holds nobody back. Can be called again."""
        self._recording.leave(self)


async def _turn(waiting: list[asyncio.Future[None]]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting.append(future)
    await future


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():  # who waited may have been cancelled
            future.set_result(None)
    waiting.clear()
