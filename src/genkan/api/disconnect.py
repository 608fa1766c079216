"""Stops the work for a client that has gone."""

import asyncio
from types import TracebackType

from genkan.api.exchange import ClientGone, Exchange

#: A block gets a watch once it has run for so long, or for twice as long at most. A request that is answered sooner
#: needs none, which would cost a task; who leaves sooner is noticed then.
WATCH_AFTER_S = 0.1


class cancelled_on_disconnect:  # noqa: N801 - reads as the block it is
    """``with`` it, a block runs until the client disconnects; then it is cancelled, and ClientGone raised.

    The request's body must have been read. Cost: a microsecond; a task for a block that runs for 0.1 to 0.2 s.
    """

    __slots__ = ("_exchange", "_gone", "_watch", "_work", "ended")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = self.ended = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        work = asyncio.current_task(loop)
        assert work is not None
        self._work = work
        (_long_blocks.get(loop) or _long_blocks_of(loop)).add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
        # Like asyncio.timeout: our own cancellation is always taken back, but becomes an exception only if it is what
        # ended the block, and nobody else cancelled it as well.
        if self._gone and self._work.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notice from now on when the client disconnects."""
        self._watch = loop.create_task(self._exchange.wait_for_disconnect())
        self._watch.add_done_callback(self._cancel_work)

    def _cancel_work(self, watch: "asyncio.Task[None]") -> None:
        # A server also reports a finished response this way, and this callback may run after the block's end.
        if not (watch.cancelled() or self._exchange.complete or self.ended):
            self._gone = True
            self._work.cancel()


class _LongBlocks:
    """Has the blocks of one event loop watched that run long, with one timer for all of them.

    It looks every `WATCH_AFTER_S`, and what it sees for the second time has run for long.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._new: list[cancelled_on_disconnect] = []
        self._seen: list[cancelled_on_disconnect] = []
        self._loop = loop
        self._looks = False

    def add(self, block: cancelled_on_disconnect) -> None:
        self._new.append(block)
        if not self._looks:
            self._looks = True
            self._loop.call_later(WATCH_AFTER_S, self._look)

    def _look(self) -> None:
        seen, self._seen, self._new = self._seen, [block for block in self._new if not block.ended], []
        self._looks = bool(self._seen)
        if self._looks:
            self._loop.call_later(WATCH_AFTER_S, self._look)
        for block in seen:
            if not block.ended:
                block.watch(self._loop)


_long_blocks: dict[asyncio.AbstractEventLoop, _LongBlocks] = {}  # in a server there is one loop


def _long_blocks_of(loop: asyncio.AbstractEventLoop) -> _LongBlocks:
    for other in list(_long_blocks):
        if other.is_closed():
            del _long_blocks[other]
    return _long_blocks.setdefault(loop, _LongBlocks(loop))
