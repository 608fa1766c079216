"""A worker that is overloaded answers on the wire as HTTP has it, whatever comes on its connections."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genkan.gateway.overload import Overload
from genkan.server import early_refusal
from genkan.server.early_refusal import on_headers_complete, on_message_complete
from genkan.server.shedding import Shedding

BODY = b'{"model": "default"}'
HEADS = {
    "keeps": b"POST /call HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n",
    "closes": b"POST /call HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 20\r\n\r\n",
    "old": b"POST /call HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\ncontent-length: 20\r\n\r\n",
    "expects": b"POST /call HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 20\r\n\r\n",
}
LOOK = b"GET /call HTTP/1.1\r\nhost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
LONG = HEADS["closes"].replace(b"length: 20", b"length: 8000000")
KEEP_ALIVE_S = 0.1
CHUNKED = b"POST /call HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """uvicorn's, with an application that answers "let in", and a worker that may be overloaded."""

    def __init__(self) -> None:
        self.overload = Overload(0.02)
        self.port = 0
        self.state = uvicorn.server.ServerState()
        self.asked: list[str] = []

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.asked.append(scope["path"])
            if scope["path"] == "/slow":
                await asyncio.sleep(3 * KEEP_ALIVE_S)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
            await send({"type": "http.response.body", "body": b"let in"})


@asynccontextmanager
async def serving(keep_alive_s: float = 5) -> AsyncIterator[Server]:
    server = Server()

    class Protocol(HttpToolsProtocol):
        on_headers_complete = on_headers_complete(Shedding(server.overload, ["/call"], []))
        on_message_complete = on_message_complete()

    config = uvicorn.Config(server.application, interface="asgi3", http=Protocol, log_config=None, lifespan="off")
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
    config.load()

    def protocol() -> HttpToolsProtocol:
        return Protocol(config=config, server_state=server.state, app_state={})

    listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


class Talk:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(data)
        return await self.answer()

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self._reader.read(1), 5) == b""


@asynccontextmanager
async def talking(server: Server) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.anyio
async def test_it_is_refused_in_openais_form_and_the_connection_goes_on() -> None:
    async with serving() as server, talking(server) as talk:
        assert (await talk.ask(HEADS["keeps"] + BODY))[0] == 200
        server.overload.sheds = True
        for _ in range(3):
            status, headers, body = await talk.ask(HEADS["keeps"] + BODY)
            assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/json")
            assert headers["x-request-id"].startswith("req_")
            assert "connection" not in headers
            error = json.loads(body)["error"]
            assert (error["code"], error["type"], error["param"]) == (
                "server_is_overloaded", "service_unavailable_error", None,
            )  # fmt: skip
        server.overload.sheds = False
        assert await talk.ask(HEADS["keeps"] + BODY) == (200, {"content-length": "6"}, b"let in")


@pytest.mark.anyio
async def test_the_first_request_of_a_connection_too() -> None:
    async with serving() as server:
        server.overload.sheds = True
        async with talking(server) as talk:
            assert (await talk.ask(HEADS["keeps"] + BODY))[0] == 503


@pytest.mark.anyio
async def test_only_what_costs_work_is_refused() -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(LOOK))[0] == 200
        assert (await talk.ask(HEADS["keeps"].replace(b"/call", b"/else") + BODY))[0] == 200


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [(BODY,), (BODY[:5], BODY[5:]), tuple(bytes([byte]) for byte in BODY)])
async def test_a_body_that_comes_later_is_read_past(pieces: tuple[bytes, ...]) -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(HEADS["keeps"]))[0] == 503
        server.overload.sheds = False
        for piece in pieces:
            talk.writer.write(piece)
            await talk.writer.drain()
        assert (await talk.ask(HEADS["keeps"] + BODY))[2] == b"let in"


@pytest.mark.anyio
async def test_a_body_in_chunks_is_read_past() -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"))[0] == 503
        server.overload.sheds = False
        assert (await talk.ask(HEADS["keeps"] + BODY))[0] == 200


@pytest.mark.anyio
async def test_requests_sent_together_are_answered_in_their_order() -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        talk.writer.write((HEADS["keeps"] + BODY) * 2 + LOOK)
        assert [(await talk.answer())[0] for _ in range(3)] == [503, 503, 200]


@pytest.mark.anyio
async def test_one_behind_a_request_under_way_waits_for_it() -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        talk.writer.write(LOOK + HEADS["keeps"] + BODY)
        assert [(await talk.answer())[0] for _ in range(2)] == [200, 200]  # let in: it was uvicorn's already


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["closes", "old", "expects"])
async def test_a_connection_that_cannot_go_on_is_closed(kind: str) -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        status, headers, _ = await talk.ask(HEADS[kind] + (b"" if kind == "expects" else BODY))
        assert (status, headers["connection"]) == (503, "close")
        assert await talk.is_closed()


@pytest.mark.anyio
async def test_so_is_that_of_a_server_that_drains() -> None:
    async with serving() as server, talking(server) as talk:
        server.state.default_headers = [(b"date", b"today"), (b"connection", b"close")]
        server.overload.sheds = True
        status, headers, _ = await talk.ask(HEADS["keeps"] + BODY)
        assert (status, headers["connection"], headers["date"]) == (503, "close", "today")
        assert await talk.is_closed()


@pytest.mark.anyio
async def test_a_long_body_is_taken_before_the_connection_is_closed_for_a_reset_would_take_the_answer_with_it() -> None:
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        talk.writer.write(LONG)
        for _ in range(8):
            talk.writer.write(bytes(1_000_000))
            await talk.writer.drain()
        assert (await talk.answer())[0] == 503
        assert await talk.is_closed()


@pytest.mark.anyio
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_refusal, "BODY_S", 0.05)
    async with serving() as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(LONG))[0] == 503
        assert await talk.is_closed()


@pytest.mark.anyio
async def test_a_connection_that_is_idle_after_a_body_that_came_later_is_closed_as_any_other() -> None:
    async with serving(KEEP_ALIVE_S) as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(HEADS["keeps"]))[0] == 503
        talk.writer.write(BODY)
        assert await talk.is_closed()


@pytest.mark.anyio
async def test_one_sent_behind_a_refused_one_has_all_its_time() -> None:
    async with serving(KEEP_ALIVE_S) as server, talking(server) as talk:
        server.overload.sheds = True
        assert (await talk.ask(HEADS["keeps"] + BODY + SLOW))[0] == 503
        assert (await talk.answer())[2] == b"let in"


@pytest.mark.anyio
async def test_nothing_is_begun_behind_one_whose_connection_is_closed() -> None:
    async with serving() as server, talking(server) as talk:
        server.state.default_headers = [(b"connection", b"close")]
        server.overload.sheds = True
        assert (await talk.ask(HEADS["keeps"] + BODY + LOOK))[0] == 503
        assert await talk.is_closed()
        assert server.asked == []


@pytest.mark.anyio
async def test_a_client_that_takes_no_answers_gets_no_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        server.overload.sheds = True
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        _, writer = await asyncio.open_connection(sock=deaf)
        paused = asyncio.Event()
        monkeypatch.setattr(FlowControl, "pause_reading", lambda _: paused.set())
        writer.write((HEADS["keeps"] + BODY) * 30_000)
        await asyncio.wait_for(paused.wait(), 20)
        writer.transport.abort()
