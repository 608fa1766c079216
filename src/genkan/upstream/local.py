"""The embedded engine, in its own process, over its Unix socket.

The engine speaks OpenAI's HTTP, so this is an HTTP client: one session of its own per worker, without a limit on
connections. BentoML's proxy client is not used, because it drops live streams when it renews its session and does
not pass a client's disconnect on. The engine's server closes a connection that was idle for 5 s; ours leave the pool
after 3 s, and what still loses that race is sent once more while nothing has come back.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson

from genkan.config import UpstreamConfig
from genkan.errors import ConnectFailed, Phase, TimedOut, UpstreamBroken, UpstreamError, UpstreamRefused
from genkan.upstream.base import Answer
from genkan.wire.chat import GenerationRequest
from genkan.wire.sse import DONE_DATA, EventTooLarge, SseDecoder

#: Where the engine shows and purges its prefix cache, on its socket as on the gateway.
PREFIX_CACHE_PATH = "/admin/prefix-cache"

_KEEPALIVE_S = 3.0
_RACE_S = 0.2
_ADMIN_S = 30.0  # the engine answers between two forward passes, and the prefill of a long chunk takes seconds
_MAX_ERROR_BYTES = 64 << 10
_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class LocalEngine:
    """An upstream of kind ``engine``."""

    def __init__(self, config: UpstreamConfig, socket_path: str) -> None:
        self.name = config.name
        self._timeouts = config.timeouts
        self._socket_path = socket_path
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session; call it in the event loop that will make the requests."""
        self._session = aiohttp.ClientSession(
            "http://engine",
            connector=aiohttp.UnixConnector(self._socket_path, limit=0, keepalive_timeout=_KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
            headers=_HEADERS,
            trust_env=False,
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def respond(self, request: GenerationRequest) -> Answer:
        """See Responder. Raises UpstreamRefused for what the engine answers with, other UpstreamErrors for silence."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        phase: Phase = "first_token" if request.stream else "total"
        limit_s = (
            min(self._timeouts.first_token_s, self._timeouts.total_s) if request.stream else self._timeouts.total_s
        )
        async with self._within(limit_s, phase):
            response = await self._request("POST", request.path, body=orjson.dumps(request.raw))
            try:
                return await self._opened(request, response, deadline)
            except BaseException:
                response.close()  # not release: what is unfinished must be cancelled
                raise

    async def prefix_cache(self) -> bytes:
        """The engine's prefix cache, as the JSON it gives. Raises what ``respond`` raises for a whole answer."""
        return await self._administer("GET", {})

    async def purge_prefix_cache(self, tenant: str) -> bytes:
        """Have the engine drop a tenant's pages; what it says of it, as JSON. Raises what ``prefix_cache`` raises."""
        return await self._administer("DELETE", {"tenant": tenant})

    async def _administer(self, method: str, parameters: dict[str, str]) -> bytes:
        async with self._within(_ADMIN_S, "total"):
            response = await self._request(method, PREFIX_CACHE_PATH, parameters=parameters)
            try:
                if response.status != 200:
                    raise await self._refusal(response)
                return await response.read()
            finally:
                response.close()  # after a whole answer its connection is back in the pool, and this does nothing

    @asynccontextmanager
    async def _within(self, limit_s: float, phase: Phase) -> AsyncGenerator[None, None]:
        """Limit the block's time, and name its failures as ours."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise TimedOut(upstream=self.name, phase=phase, limit_s=limit_s) from error
        except aiohttp.ClientError as error:
            raise self._broken("The connection to the engine broke.") from error

    async def _opened(self, request: GenerationRequest, response: aiohttp.ClientResponse, deadline: float) -> Answer:
        if response.status != 200:
            raise await self._refusal(response)
        if not request.stream:
            return Answer(body=await response.read())
        events = self._events(response, deadline)
        first = await anext(events, None)
        if first is None:
            raise self._broken("The engine's answer is empty.")
        answer = Answer(events=_with_first(first, events))
        answer.on_close(_closer(response))
        answer.on_close(events.aclose)
        return answer

    async def _request(
        self, method: str, path: str, *, body: bytes | None = None, parameters: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "start() comes first"
        began = time.monotonic()
        try:
            try:
                return await self._session.request(method, path, params=parameters, data=body)
            except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if time.monotonic() - began > _RACE_S:
                    raise  # no race: the engine went away over this request, and might do so again
                return await self._session.request(method, path, params=parameters, data=body)
        except aiohttp.ClientConnectorError as error:
            raise ConnectFailed("The engine cannot be reached; it may be restarting.", upstream=self.name) from error
        except aiohttp.ServerTimeoutError as error:
            raise TimedOut(upstream=self.name, phase="connect", limit_s=self._timeouts.connect_s) from error

    async def _events(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[bytes, None]:
        """Payloads up to ``[DONE]``; anything else that ends the stream is an error."""
        decoder = SseDecoder()
        while chunk := await self._read(response, deadline):
            try:
                events = decoder.feed(chunk)
            except EventTooLarge as error:
                raise self._broken(f"The engine's answer is malformed: {error}.") from error
            for data in events:
                if data == DONE_DATA:
                    return
                if data.startswith(b'{"error"'):
                    raise self._relayed(data, 502, None)
                yield data
        raise self._broken("The engine's answer ended before it was complete.")

    async def _read(self, response: aiohttp.ClientResponse, deadline: float) -> bytes:
        now, limit_s = asyncio.get_running_loop().time(), self._timeouts.between_tokens_s
        try:
            async with asyncio.timeout_at(min(deadline, now + limit_s)):
                return await response.content.readany()
        except TimeoutError as error:
            if deadline < now + limit_s:
                raise TimedOut(upstream=self.name, phase="total", limit_s=self._timeouts.total_s) from error
            raise TimedOut(upstream=self.name, phase="between_tokens", limit_s=limit_s) from error
        except aiohttp.ClientError as error:
            raise self._broken("The connection to the engine broke.") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> UpstreamError:
        body = await response.content.read(_MAX_ERROR_BYTES)
        retry_after = response.headers.get("retry-after", "")
        return self._relayed(body, response.status, float(retry_after) if retry_after.isdecimal() else None)

    def _relayed(self, body: bytes, status: int, retry_after_s: float | None) -> UpstreamError:
        try:
            error = orjson.loads(body)["error"]
            return UpstreamRefused(
                error["message"],
                upstream=self.name,
                status=status,
                kind=error["type"],
                code=error["code"],
                param=error["param"],
                retry_after_s=retry_after_s,
            )
        except (ValueError, KeyError, TypeError):
            return self._broken("The engine's answer is malformed.")

    def _broken(self, message: str) -> UpstreamBroken:
        return UpstreamBroken(message, upstream=self.name)


async def _with_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for event in rest:
        yield event


def _closer(response: aiohttp.ClientResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        response.close()  # a finished response has given its connection back already; then this does nothing

    return close
