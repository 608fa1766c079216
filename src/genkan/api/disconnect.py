"""Stops the work for a client that has gone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from genkan.api.exchange import ClientGone, Exchange


@asynccontextmanager
async def cancelled_on_disconnect(exchange: Exchange) -> AsyncGenerator[None, None]:
    """Run the block until the client disconnects; then cancel it and raise ClientGone.

    The request's body must have been read. Cost: one task a request.
    """
    work = asyncio.current_task()
    assert work is not None
    gone = ended = False

    def cancel_work(watch: asyncio.Task[None]) -> None:
        nonlocal gone
        # A server also reports a finished response this way, and this callback may run after the block's end.
        if not (watch.cancelled() or exchange.complete or ended):
            gone = True
            work.cancel()

    watch = asyncio.create_task(exchange.wait_for_disconnect())
    watch.add_done_callback(cancel_work)
    try:
        yield
    except asyncio.CancelledError:
        # Like asyncio.timeout: only our own cancellation becomes an exception.
        if gone and work.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        ended = True
        watch.cancel()
