"""Asks a server and times what comes, over the gateway's own HTTP client: a tenth of the cost of a general one's.

A time is that at which the event loop hands the bytes over; `lag.py` watches that it does so at once.
"""

import asyncio
from contextlib import suppress

from genkan.bench.client.outcome import Seen
from genkan.bench.client.reading import Reading
from genkan.bench.client.target import Target
from genkan.clock import Clock
from genkan.upstream.dialers import TcpDialer
from genkan.upstream.http_client import BadResponse, ConnectTimeout, Disconnected, HttpClient, NotConnected, Response

_CONNECT_S = 10.0
_KEPT = 20_000  # idle connections
_KEPT_S = 3.0  # servers close them after five, some of them


class Asker:
    """Asks ``target`` over as many connections as there are requests at once. Close it, or sockets stay open."""

    def __init__(self, target: Target, clock: Clock, *, timeout_s: float) -> None:
        self._client = HttpClient(
            TcpDialer(target.origin), connect_s=_CONNECT_S, keep_alive=_KEPT, keep_alive_s=_KEPT_S
        )
        self._clock = clock
        self._timeout_s = timeout_s

    async def ask(self, request: bytes) -> Seen:
        """What came of ``request``; every failure is in ``error``, in the same words for failures alike."""
        return (await self.ask_for_message(request))[0]

    async def ask_for_message(self, request: bytes) -> tuple[Seen, str]:
        """As ``ask``, and what the server said of an error to people."""
        seen = Seen()
        reading = Reading(seen)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._read(request, reading)
        except TimeoutError:
            seen.error = f"no end of the answer within {self._timeout_s:g} s"
        except ConnectTimeout:
            seen.error = f"not connected within {_CONNECT_S:g} s"
        except NotConnected as error:
            seen.error = f"cannot connect: {_reason(error)}"
        except Disconnected:
            seen.error = "the stream was cut off" if seen.token_s else "the server closed the connection"
        except BadResponse:
            seen.error = "no HTTP answer"
        except ValueError as error:
            seen.error = str(error)
        if not seen.ended_s:
            seen.ended_s = self._clock.monotonic()
        return seen, "" if seen.error is None else reading.message()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    async def _read(self, request: bytes, reading: Reading) -> None:
        response = await self._client.request(request)
        try:
            reading.head(response.status, response.raw_headers)
            while piece := await response.read():
                reading.body(piece, self._clock.monotonic())
            reading.end(self._clock.monotonic())
        finally:
            response.close()

    async def get_json(self, request: bytes) -> dict[str, object]:
        """The object that a GET answers with; empty where the server has none. Raises nothing of the network."""
        with suppress(NotConnected, Disconnected, BadResponse, TimeoutError, ValueError):
            async with asyncio.timeout(self._timeout_s):
                return await _object(await self._client.request(request))
        return {}


async def _object(response: Response) -> dict[str, object]:
    reading = Reading(Seen())
    try:
        reading.head(response.status, response.raw_headers)
        while piece := await response.read():
            reading.body(piece, 0.0)
        return reading.whole() if response.status == 200 else {}
    finally:
        response.close()


def _reason(error: NotConnected) -> str:
    """In a few words: asyncio's name every address that was tried."""
    cause = error.__cause__
    return "connection refused" if isinstance(cause, ConnectionRefusedError) else str(error)
