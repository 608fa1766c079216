"""The processes beside the gateway: whether each of them is ready, known before anybody asks.

BentoML asks its services' dependencies only when it is itself asked whether it is ready, and waits for them: while a
model loads, which takes the interpreter for a second at a time, so does the answer. And it calls a gateway unready
whose embedder died, although that answers all but a few requests. So they are asked here, at intervals.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from genkan.upstream.dialers import UnixDialer
from genkan.upstream.http_client import HttpClient, HttpError

_LOADING_EVERY_S = 0.1
_READY_EVERY_S = 1.0
_ANSWER_S = 5.0
_ASK = b"GET /readyz HTTP/1.1\r\nhost: sibling\r\naccept: text/plain\r\n\r\n"


class Siblings:
    """Whether all that the gateway needs of them is there. Use it in one event loop: ``start``, then ``aclose``."""

    def __init__(
        self,
        needed: Mapping[str, str],
        awaited: Mapping[str, str],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Sockets by name: of those that must be ready now, and of those that must have been ready once.

        ``sleep`` takes seconds and ends when it is time to ask again.
        """
        self._sleep = sleep
        self._needed = frozenset(needed)
        self._sockets = {**needed, **awaited}
        self._is_ready = dict.fromkeys(self._sockets, False)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def are_ready(self) -> bool:
        """Whether they are, as far as is known: what changed is seen after a tenth of a second to a second."""
        return all(self._is_ready.values())

    async def start(self) -> None:
        """Begin to ask."""
        self._tasks = [asyncio.create_task(self._watch(name)) for name in self._sockets]

    async def aclose(self) -> None:
        """Ask no more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str) -> None:
        dial = UnixDialer(self._sockets[name])
        client = HttpClient(dial, connect_s=_ANSWER_S, keep_alive=0, keep_alive_s=1.0)
        try:
            while not self._is_ready[name] or name in self._needed:
                self._is_ready[name] = await _answers(client)
                await self._sleep(_READY_EVERY_S if self._is_ready[name] else _LOADING_EVERY_S)
        finally:
            client.close()


async def _answers(client: HttpClient) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            response = await client.request(_ASK)
            response.close()
            return response.status == 200
    except (HttpError, OSError, TimeoutError):
        return False
