"""Stored answers in this process, for a single worker without Redis. Pure but for the futures it answers with."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from genkan.clock import Clock
from genkan.store.answers import AnswerStatistics, Looked, new_epoch

_ENTRY_BYTES = 300  # what the table takes for each, besides the value
_MOST_EPOCHS = 100_000


class MemoryAnswers:
    """See Answers. Keeps ``limit_bytes`` at most: what was looked at or put longest ago goes first."""

    def __init__(self, clock: Clock, *, limit_bytes: int) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()  # when it runs out, and the value
        self._taken_bytes = 0
        self._epochs: OrderedDict[str, bytes] = OrderedDict()

    def look(self, key: bytes, epochs: Sequence[str], *, timeout_s: float) -> Awaitable[Looked]:
        del timeout_s  # it takes none
        return _Known(Looked(self._value(key), b"".join([self._epoch(name) for name in epochs])))

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> "asyncio.Future[None]":
        self._drop(key)
        self._kept[key] = (self._clock.monotonic() + ttl_s, value)
        self._taken_bytes += len(value) + _ENTRY_BYTES
        while self._taken_bytes > self._limit_bytes:
            self._drop(next(iter(self._kept)))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def purge(self, epoch: str) -> None:
        self._epochs[epoch] = new_epoch()

    async def statistics(self, *, at_most: int = 100_000) -> AnswerStatistics:
        """See Answers; all is counted at once. O(entries)."""
        del at_most
        now_s = self._clock.monotonic()
        sizes = [len(value) for expires_s, value in self._kept.values() if expires_s > now_s]
        return AnswerStatistics(len(sizes), sum(sizes), True)

    def _value(self, key: bytes) -> bytes | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        expires_s, value = kept
        if expires_s <= self._clock.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return value

    def _epoch(self, name: str) -> bytes:
        epoch = self._epochs.get(name)
        if epoch is None:
            epoch = self._epochs[name] = new_epoch()
            if len(self._epochs) > _MOST_EPOCHS:
                self._epochs.popitem(last=False)  # its answers are lost with it
        return epoch

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._taken_bytes -= len(kept[1]) + _ENTRY_BYTES


class _Known:
    """What need not be waited for."""

    __slots__ = ("_looked",)

    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def __await__(self) -> Generator[Any, None, Looked]:
        yield from ()
        return self._looked
