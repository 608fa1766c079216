"""The way of tokens from the engine's thread to the event loop that asked for them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from genkan.engine.sequence import Sequence, Token
from genkan.errors import ReaderTooSlow

Item = Token | Exception


class TokenStream:
    """One sequence's tokens, for one reader. Everything but ``loop`` belongs to the loop's thread."""

    __slots__ = ("_items", "_limit", "_on_overflow", "loop", "sequence")

    def __init__(self, sequence: Sequence, limit: int, on_overflow: Callable[["TokenStream"], None]) -> None:
        """``on_overflow`` is called, once, when ``limit`` tokens wait unread; the reader gets ReaderTooSlow after them.

        To be made in the reader's event loop.
        """
        self.sequence = sequence
        self.loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._limit: int | None = limit
        self._on_overflow = on_overflow

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
        self._on_overflow(self)


def deliver(items: Iterable[tuple[TokenStream, Item]]) -> None:
    """Hand each stream its item, waking each event loop once. From any thread. Closed loops are passed over."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[TokenStream, Item]]] = defaultdict(list)
    for stream, item in items:
        by_loop[stream.loop].append((stream, item))
    for loop, its_items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put_all, its_items)
        except RuntimeError:  # closed: its readers are gone
            continue


def _put_all(items: list[tuple[TokenStream, Item]]) -> None:
    for stream, item in items:
        stream.put(item)
