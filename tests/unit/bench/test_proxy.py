"""The raw proxy passes on what the upstream says, whole or read by read."""

import asyncio
from collections.abc import AsyncIterator

import anyio.lowlevel
import pytest

from genkan.bench.chat_traffic import PATH, Requests, check_stream, check_whole
from genkan.bench.fake_upstream import FakeUpstream
from genkan.bench.http_answer import Answer
from genkan.bench.proxy import Message, Proxy

pytestmark = pytest.mark.anyio


class Served:
    """A proxy that lives, and what it sends."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def ask(self, *parts: bytes) -> tuple[list[Message], Answer]:
        """What it sent in answer to a body that comes in ``parts``, message by message and put together."""
        waiting = [{"body": part, "more_body": True} for part in parts] + [{"body": b"", "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            await anyio.lowlevel.checkpoint()
            return waiting.pop(0)

        async def send(message: Message) -> None:
            await anyio.lowlevel.checkpoint()
            sent.append(message)

        await self._proxy({"type": "http"}, receive, send)
        assert not sent[-1].get("more_body", False)
        return sent, Answer(sent[0]["status"], b"".join(message["body"] for message in sent[1:]), closes=False)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeUpstream(loop), "127.0.0.1", 0)
    proxy = Proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}")
    told: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    async with server, asyncio.TaskGroup() as tasks:
        tasks.create_task(proxy({"type": "lifespan"}, told.get, said.put))
        told.put_nowait({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        yield Served(proxy)
        told.put_nowait({"type": "lifespan.shutdown"})
        assert (await said.get())["type"] == "lifespan.shutdown.complete"


def body(*, stream: bool) -> bytes:
    return Requests(1, stream=stream)(7).split(b"\r\n\r\n", 1)[1]


async def test_a_whole_answer_is_one_message_of_known_length(served: Served) -> None:
    text = body(stream=False)
    sent, answer = await served.ask(text[:10], text[10:])
    check_whole(answer, 7)
    assert len(sent) == 2
    assert (b"content-length", b"%d" % len(answer.body)) in sent[0]["headers"]


async def test_a_stream_goes_on_as_it_comes(served: Served) -> None:
    sent, answer = await served.ask(body(stream=True))
    check_stream(answer, 7)
    assert len(sent) > 3
    assert sent[0]["headers"] == [(b"content-type", b"text/event-stream; charset=utf-8")]


async def test_so_do_errors(served: Served) -> None:
    _, answer = await served.ask(b"{}")
    assert answer.status == 400
