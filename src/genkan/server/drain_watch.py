"""A worker's part in draining: it says what it is doing, and has clients look for another server."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from genkan.server.drain import SLOTS, DrainPage, Report
from genkan.server.http_server import HttpServer
from genkan.telemetry import catalog

EVERY_S = 0.1
_log = logging.getLogger("genkan.server.drain")


class DrainWatch:
    """Looks at the page ten times a second. ``start`` in the worker's event loop, ``aclose`` at its end.

    That costs as much as uvicorn's own tick, some ten microseconds of a tenth of a second, and requests nothing.
    """

    def __init__(
        self,
        page: DrainPage,
        server: HttpServer,
        worker: int,
        *,
        tell: Callable[[float], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``worker`` is its number, from 1 on; numbers beyond the page's slots report nothing.

        ``tell`` is told 0 at first, 1 once the server drains, and 0 when it serves again.
        """
        self._page = page
        self._server = server
        self._slot = worker - 1
        self._sleep = sleep
        self._tell = tell
        self._was_draining = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The worker is known from here on."""
        self._tell(0)
        self.look()
        self._task = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """It is not any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if 0 <= self._slot < SLOTS:
            self._page.leave(self._slot)

    def look(self) -> None:
        """Do what the page says now, and say what there is to do."""
        is_draining = self._page.is_draining
        if is_draining != self._was_draining:
            self._was_draining = is_draining
            self._server.close_after_answers(closes=is_draining)
            self._tell(is_draining)
            _log.info("the server %s", "drains: it is not ready any more" if is_draining else "serves as before")
        if 0 <= self._slot < SLOTS:
            report = Report(os.getpid(), self._server.requests, self._server.connections, is_draining)
            self._page.report(self._slot, report)

    async def _watch(self) -> None:
        while True:
            await self._sleep(EVERY_S)
            self.look()


def draining_gauge() -> Callable[[float], None]:
    """What tells the metrics. Once in a process."""
    return catalog.DRAINING.on().set
