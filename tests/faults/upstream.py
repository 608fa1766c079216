"""An OpenAI-compatible upstream on raw sockets, whose faults are chosen by the model's name.

It serves ``POST /v1/chat/completions``, ``POST /v1/completions`` and ``GET /v1/models``. A key that begins with
``sk-wrong`` is refused with 401 everywhere, one that begins with ``sk-forbidden`` with 403.

Tests steer it under ``/_``:

* ``GET /_/attempts``, ``GET /_/probes``, ``GET /_/canary-hits``: the ledger;
* ``POST /_/reset``: forget all that, and end every outage;
* ``POST /_/down``: ``{"seconds": 60}``, ``{"until_told": true}`` or ``{"up": true}``, for all or for one ``model``;
  with ``"mode": "503"`` it answers in place of resetting the connection;
* ``GET /_/connections``: how many are open, and how many there ever were, those of the tests left out.

``python -m faults.upstream --port 0``, in the folder ``tests``, prints the port and runs until it is ended.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, Self

import orjson
from faults.canonical import error_body
from faults.catalogue import FAULTS, TABLE
from faults.exchange import Exchange
from faults.going_on import going_on
from faults.ledger import Attempt, Ledger
from faults.outages import EVERYTHING, Outages
from faults.request import Request, read_request

_GENERATES = ("/v1/chat/completions", "/v1/completions")
_BACKLOG = 1024


class FaultUpstream:
    """``async with`` it: listens on 127.0.0.1 until the end of the block, which cuts whatever is still open."""

    def __init__(self, port: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """``port`` 0 takes a free one. ``clock`` is the one that outages end by."""
        self.port = port
        self.ledger = Ledger()
        self.outages = Outages(clock)
        self.open_connections: set[Connection] = set()
        self._accepted = 0
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """As OpenAI's clients want it."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self.port, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.stop() for connection in self.open_connections]
        await asyncio.gather(*tasks, return_exceptions=True)

    def next_number(self) -> int:
        """Connections are numbered when they bring their first request that is not the tests' own."""
        self._accepted += 1
        return self._accepted

    async def serve(self, request: Request, exchange: Exchange) -> None:
        """Answer a request that was not under ``/_``."""
        if (mode := self.outages.mode(request.model)) is not None:
            await exchange.refuse(mode)
        elif request.key.startswith("sk-wrong"):
            await TABLE["unauthorized"].serve(exchange)
        elif request.key.startswith("sk-forbidden"):
            await TABLE["forbidden"].serve(exchange)
        elif request.method == "GET" and request.path == "/v1/models":
            models = [{"id": name, "object": "model", "created": 1, "owned_by": "faults"} for name in FAULTS]
            await exchange.answer(orjson.dumps({"object": "list", "data": models}))
        elif request.method == "POST" and request.path in _GENERATES:
            await (going_on(request.fault) or TABLE.get(request.fault, TABLE["not-found"])).serve(exchange)
        else:
            await exchange.answer(error_body(f"no {request.method} {request.path}", "invalid_request_error"), 404)

    def control(self, request: Request) -> Any:
        """Do what a request under ``/_`` asks for; its answer, or None when there is no such thing."""
        match request.method, request.path.removeprefix("/_/"):
            case "GET", "attempts":
                return self.ledger.as_json("attempts")
            case "GET", "probes":
                return self.ledger.as_json("probes")
            case "GET", "canary-hits":
                return self.ledger.canary_hits
            case _, "canary":
                self.ledger.canary_hits.append({"method": request.method, "headers": request.headers})
                return request.canonical.whole()
            case "GET", "connections":
                mine = [connection for connection in self.open_connections if connection.number]
                return {"open": len(mine), "accepted": self._accepted}
            case "POST", "reset":
                self.ledger = Ledger()
                self.outages.end()
                return {}
            case "POST", "down":
                return self._down(request.body)
        return None

    def _down(self, wish: dict[str, Any]) -> dict[str, Any]:
        model = wish.get("model", EVERYTHING)
        if wish.get("up"):
            self.outages.end(model)
        else:
            seconds = float("inf") if wish.get("until_told") else float(wish.get("seconds", 60))
            self.outages.begin(model, seconds=seconds, mode=wish.get("mode", "reset"))
        return {}

    def _accept(self) -> asyncio.BaseProtocol:
        connection = Connection(self)
        return _Noticing(connection)


class Connection:
    """One client's connection: requests one after the other, until either side ends it."""

    def __init__(self, upstream: FaultUpstream) -> None:
        self.reader = asyncio.StreamReader()
        #: 0 until it brought a request that is not the tests' own.
        self.number = 0
        self._upstream = upstream
        self._running: Attempt | None = None
        self._requests = 0
        self._transport: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve it in a task of its own."""
        # What was written is with the kernel before a fault cuts the connection.
        self._transport = writer.transport
        self._transport.set_write_buffer_limits(0)
        self._upstream.open_connections.add(self)
        self._task = asyncio.create_task(self._serve(writer))
        self._task.add_done_callback(lambda _: self._upstream.open_connections.discard(self))

    def stop(self) -> "asyncio.Task[None]":
        """Cut it, with what was not sent yet."""
        assert self._transport is not None, "begin() comes first"
        assert self._task is not None, "begin() comes first"
        self._transport.abort()
        self._task.cancel()
        return self._task

    def client_gone(self) -> None:
        """Called by the socket. Whatever is still being answered ends here."""
        if self._running is not None and self._running.outcome == "running":
            self._running.end("client gone")
            self.stop()

    async def _serve(self, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._next_request()) and await self._answer(request, writer):
                pass
        except ConnectionError:
            self.client_gone()
        finally:
            writer.close()

    async def _next_request(self) -> Request | None:
        """None when the client has left, or says what is no HTTP."""
        try:
            return await read_request(self.reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            return None

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection serves another request."""
        if request.path.startswith("/_/"):
            answer = self._upstream.control(request)
            writer.write(_control_answer(404 if answer is None else 200, orjson.dumps(answer)))
            await writer.drain()
            return True
        self.number = self.number or self._upstream.next_number()
        self._requests += 1
        attempt = self._running = self._upstream.ledger.begin(request, self.number)
        exchange = Exchange(request, attempt, writer, self._upstream.outages, self._requests)
        await self._upstream.serve(request, exchange)
        attempt.end("answered")
        return exchange.keep_alive and await self._discard(request.unread_bytes)

    async def _discard(self, size_bytes: int) -> bool:
        """Whether the rest of a body that was answered early did come."""
        while size_bytes and (piece := await self.reader.read(size_bytes)):
            size_bytes -= len(piece)
        return not size_bytes


class _Noticing(asyncio.StreamReaderProtocol):
    """Streams, and a word to the connection as soon as the other side is gone: a fault that waits reads nothing."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.reader, connection.begin)
        self._connection = connection

    def eof_received(self) -> bool | None:
        self._connection.client_gone()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.client_gone()
        super().connection_lost(exc)


def _control_answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _run(port: int) -> None:
    async with FaultUpstream(port) as upstream:
        sys.stdout.write(f"{upstream.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible upstream that fails in the way you ask for.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    asyncio.run(_run(parser.parse_args().port))


if __name__ == "__main__":
    main()
