"""Tells one other worker what is recorded here."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

from genkan.errors import GenkanError, RequestError, ServerStopping, StoreError
from genkan.gateway.flight_message import Kind, Message, Names, error_as_bytes
from genkan.gateway.recording import KEPT_BYTES, Reader, Recording

_PIECE_BYTES = 32 << 10  # to seal one takes half a millisecond


class FollowerLost(GenkanError):
    """The worker that followed listens no longer."""


class Followed(Protocol):
    """A flight that another worker follows."""

    recording: Recording
    is_following: bool

    def follow(self) -> None:
        """Count the follower among the passengers."""

    async def unfollow(self) -> None:
        """It follows no longer."""


class Teller(Protocol):
    """Sends messages."""

    worker: str

    async def tell(self, worker: str, message: Message) -> None:
        """Raises FollowerLost, StoreError."""


class Broadcast:
    """One following of another worker's, from its FOLLOW to its end."""

    def __init__(self, teller: Teller, flight: Followed, asked: Message, *, beat_s: float) -> None:
        """``asked`` is its FOLLOW. It is told something every ``beat_s``."""
        self._teller = teller
        self._flight = flight
        self._recording = flight.recording
        self._reader: Reader = flight.recording.join()
        self._asked = asked
        self._beat_s = beat_s
        self._number = 0
        flight.follow()

    async def run(self) -> None:
        """Tell all of it. Raises nothing but CancelledError."""
        try:
            await self._tell(Kind.ALIVE)
            await self._tell_all()
        except (FollowerLost, StoreError):
            pass
        finally:
            self._reader.close()
            await self._flight.unfollow()

    async def _tell_all(self) -> None:
        recording = self._recording
        has_begun = False
        try:
            async for batch in self._batches():
                if recording.deployment and not has_begun:
                    has_begun = True
                    await self._tell(Kind.BEGUN, Names(recording.deployment, recording.model).as_bytes())
                if not batch:
                    await self._tell(Kind.ALIVE)
                for piece in _pieces(batch):
                    await self._tell(Kind.CHUNKS, b"\n".join(piece))
        except ServerStopping:
            await self._tell(Kind.GONE)
            return
        except RequestError as error:
            await self._tell(Kind.FAILED, error_as_bytes(error))
            return
        if self._flight.is_following:
            await self._tell(Kind.GONE)
            return
        body = recording.body
        if body is not None and recording.collected is not None and len(body) <= KEPT_BYTES:
            for start in range(0, len(body), _PIECE_BYTES):
                await self._tell(Kind.BODY, body[start : start + _PIECE_BYTES])
        names = Names(recording.deployment, recording.model, recording.usage)
        await self._tell(Kind.END, names.as_bytes())

    async def _batches(self) -> AsyncGenerator[list[bytes], None]:
        """What comes; an empty one when nothing has for ``beat_s``."""
        while not self._flight.is_following:
            try:
                async with asyncio.timeout(self._beat_s):
                    batch = await self._reader.next()
            except TimeoutError:
                batch = []
            if batch is None:
                return
            yield batch

    async def _tell(self, kind: Kind, body: bytes = b"") -> None:
        asked = self._asked
        message = Message(kind, asked.key, self._teller.worker, asked.following, self._number, body)
        self._number += 1
        await self._teller.tell(asked.worker, message)


def _pieces(batch: list[bytes]) -> Iterator[list[bytes]]:
    """A batch in parts of about one size."""
    piece: list[bytes] = []
    size = 0
    for payload in batch:
        piece.append(payload)
        size += len(payload)
        if size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
