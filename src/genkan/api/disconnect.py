"""Stops the work for a client that has gone."""

import asyncio
from types import TracebackType

from genkan.api.exchange import ClientGone, Exchange

#: A request that is answered sooner needs no watch, which would cost a task; who leaves sooner is noticed then.
WATCH_AFTER_S = 0.02


class cancelled_on_disconnect:  # noqa: N801 - reads as the block it is
    """``with`` it, a block runs until the client disconnects; then it is cancelled, and ClientGone raised.

    The request's body must have been read. Cost: a timer; a task for a block that runs longer than 20 ms.
    """

    __slots__ = ("_ended", "_exchange", "_gone", "_timer", "_watch", "_work")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = self._ended = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        work = asyncio.current_task()
        assert work is not None
        self._work = work
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        # Like asyncio.timeout: our own cancellation is always taken back, but becomes an exception only if it is what
        # ended the block, and nobody else cancelled it as well.
        if self._gone and self._work.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from None

    def _begin(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._exchange.wait_for_disconnect())
        self._watch.add_done_callback(self._cancel_work)

    def _cancel_work(self, watch: "asyncio.Task[None]") -> None:
        # A server also reports a finished response this way, and this callback may run after the block's end.
        if not (watch.cancelled() or self._exchange.complete or self._ended):
            self._gone = True
            self._work.cancel()
