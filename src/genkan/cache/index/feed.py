"""A stream in Redis by which workers tell each other of their questions. It is read from its start, and then for ever.

Entries expire, so the stream is both the log and, cut to the longest life of one, all that there is to know: a worker
that starts reads it from the beginning. One that may have missed something, as the stream was cut past what it had
read or Redis is not the one that it was, forgets everything and does so again.

* **Bounds.** What is older than the longest life goes with each write, what exceeds ``max_records`` from time to time;
  the key expires when nothing is written any more.
* **Privacy.** Records are sealed, so nobody with access to Redis can add one, and if answers are encrypted, so are
  they.
* **Cost.** Reading 100,000 records of 384 numbers takes some 2 s, in slices of `_SLICE_S` with the loop's other work in
  between.
"""

import asyncio
import time
from typing import Protocol

from genkan.cache.index.record import Record, read, written
from genkan.cache.observer import CacheObserver
from genkan.cache.sealer import Sealer, Unreadable
from genkan.clock import Clock
from genkan.errors import StoreError, StoreLost, StoreRefused
from genkan.store.address import Address
from genkan.store.command import packed
from genkan.store.connection import Connection, Reply
from genkan.store.link import Link
from genkan.store.resp import RespClient

PAGE = 256
_SLICE_S = 0.0015
_PAGE_S = 5.0  # nobody waits for it
_BLOCK_MS = 1000
_SKEW_S = 60.0  # Redis' clock numbers the records, ours says which are old
_WRITES_A_CUT = 256
_START = b"0-0"


class FeedListener(Protocol):
    """Who is told. Nothing here may raise."""

    def take(self, record: Record) -> None:
        """A record; those of this worker come too."""

    def begin_anew(self) -> None:
        """Everything told so far is void; what there is comes now."""


class Feed:
    """One stream, for the event loop that started it. Goes on by itself whenever Redis is there."""

    def __init__(
        self,
        client: RespClient,
        address: Address,
        key: str,
        *,
        sealer: Sealer,
        clock: Clock,
        observer: CacheObserver,
        longest_s: float,
        max_records: int,
        connect_s: float,
        timeout_s: float,
    ) -> None:
        """``client`` writes to the Redis at ``address``, which is read on a connection of its own.

        ``longest_s`` is the longest life of an entry.
        """
        self.is_current = False  # whether all that there was has been read
        self._client = client
        self._key = key
        self._sealer = sealer
        self._clock = clock
        self._observer = observer
        self._longest_s = longest_s
        self._max_records = max_records
        self._timeout_s = timeout_s
        self._link = Link(
            address, connect_s=connect_s, timeout_s=timeout_s, on_connected=self._connected, is_second=True
        )
        self._bound_to = b"questions:" + key.encode()
        self._joined = asyncio.Event()
        self._is_void = False
        self._last = _START
        self._writes = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: FeedListener) -> None:
        """Begin to read; returns once connected, or when that cannot be within ``connect_s``. Raises nothing."""
        self._task = asyncio.get_running_loop().create_task(self._read(listener))
        await self._link.start()

    async def aclose(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._link.aclose()

    async def write(self, record: Record) -> None:
        """Tell all workers, this one too. Raises StoreError; StoreRefused also if it is too long for a record."""
        try:
            sealed = self._sealer.seal(written(record), self._bound_to)
        except ValueError as error:
            raise StoreRefused(f"TOOLONG {error}") from error
        oldest_ms = max(int((self._clock.unix() - self._longest_s - _SKEW_S) * 1e3), 0)
        commands = [
            packed("XADD", self._key, "MINID", "~", oldest_ms, "*", "r", sealed),
            packed("PEXPIRE", self._key, int((self._longest_s + _SKEW_S) * 1e3)),
        ]
        if self._writes % _WRITES_A_CUT == 0:
            commands.append(packed("XTRIM", self._key, "MAXLEN", "~", self._max_records))
        self._writes += 1
        for reply in await self._client.pipeline(commands):
            if isinstance(reply, StoreRefused):
                raise reply

    def _connected(self, is_another: bool) -> None:
        self._is_void |= is_another
        self._joined.set()

    async def _read(self, listener: FeedListener) -> None:
        while True:
            await self._joined.wait()
            self._joined.clear()
            connection = self._link.connection
            if connection is None:
                continue
            try:
                await self._follow(connection, listener)
            except StoreError:
                self._observer.failed("index")
                connection.drop("it did not say what is new")  # and is made again after a pause

    async def _follow(self, connection: Connection, listener: FeedListener) -> None:
        """Read for as long as the connection lasts."""
        if self._is_void:
            self._begin_anew(listener)
            self._is_void = False
        while True:
            await self._catch_up(connection, listener)
            self.is_current = True
            news = PAGE - 1
            while news < PAGE:
                news = await self._take(await self._news(connection), listener)

    async def _catch_up(self, connection: Connection, listener: FeedListener) -> None:
        """Read all that is there, page by page."""
        page = PAGE
        while page == PAGE:
            more = packed("XRANGE", self._key, b"(" + self._last, "+", "COUNT", PAGE)
            first = packed("XRANGE", self._key, "-", "+", "COUNT", 1)
            replies = await connection.pipeline([more, first], _PAGE_S)
            for reply in replies:
                if isinstance(reply, StoreRefused):
                    raise reply
            if self._is_cut(replies[1]):
                self._begin_anew(listener)
                continue
            page = await self._take(replies[0], listener)

    async def _news(self, connection: Connection) -> Reply:
        """What comes next, soon after it was written; nothing after a second without any."""
        command = packed("XREAD", "COUNT", PAGE, "BLOCK", _BLOCK_MS, "STREAMS", self._key, self._last)
        streams = await connection.send(command, _BLOCK_MS / 1e3 + self._timeout_s)
        return streams[0][1] if streams else []

    def _is_cut(self, first: Reply) -> bool:
        """Whether the stream no more holds all that came after what was read; asked after that was."""
        if self._last == _START:
            return False
        return not first or _order(first[0][0]) > _order(self._last)

    def _begin_anew(self, listener: FeedListener) -> None:
        self.is_current = False
        self._last = _START
        listener.begin_anew()

    async def _take(self, records: Reply, listener: FeedListener) -> int:
        """Tell of them, and how many there were."""
        began_s = time.perf_counter()
        for number, fields in records:
            self._last = number
            try:
                record = read(self._sealer.open(fields[1], self._bound_to))
            except (Unreadable, ValueError, IndexError, TypeError):
                self._observer.failed("index")
            else:
                listener.take(record)
            if time.perf_counter() - began_s > _SLICE_S:
                await asyncio.sleep(0)
                began_s = time.perf_counter()
        return len(records)


def _order(number: bytes) -> tuple[int, int]:
    """A record's number as Redis orders them. Raises StoreLost if it is none."""
    try:
        milliseconds, _, count = number.partition(b"-")
        return int(milliseconds), int(count)
    except ValueError as error:
        raise StoreLost("it numbers its records in a way of its own") from error
