"""The way of tokens from the engine's thread to the event loop that asked for them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from genkan.engine.sequence import Token
from genkan.errors import ReaderTooSlow

Item = Token | Exception


class TokenStream:
    """One request's tokens, for one reader. Everything but ``loop`` belongs to the loop's thread."""

    __slots__ = ("_cancel", "_items", "_limit", "loop")

    def __init__(self, limit: int, cancel: Callable[[], None]) -> None:
        """``cancel`` is called, from any thread, when one more than ``limit`` tokens would wait unread; the reader gets
        ReaderTooSlow after them.

        To be made in the reader's event loop.
        """
        self.loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._limit: int | None = limit
        self._cancel = cancel

    async def next(self) -> Token:
        """The next token. Raises what ended the stream instead."""
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    def put(self, item: Item) -> None:
        if self._limit is None:
            return  # it overflowed; nobody gets what comes after
        if self._items.qsize() < self._limit or isinstance(item, Exception):
            self._items.put_nowait(item)
            return
        self._items.put_nowait(ReaderTooSlow(self._limit))
        self._limit = None
        self._cancel()

    def abandon(self) -> None:
        """Nobody can read it any more: its request is cancelled. From any thread."""
        self._cancel()


def deliver(items: Iterable[tuple[TokenStream, Item]]) -> None:
    """Hand each stream its item, waking each event loop once; from any thread. Closed loops' streams are abandoned."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[TokenStream, Item]]] = defaultdict(list)
    for stream, item in items:
        by_loop[stream.loop].append((stream, item))
    for loop, its_items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put_all, its_items)
        except RuntimeError:  # closed, and its readers gone
            for stream, _ in its_items:
                stream.abandon()


def _put_all(items: list[tuple[TokenStream, Item]]) -> None:
    for stream, item in items:
        stream.put(item)
