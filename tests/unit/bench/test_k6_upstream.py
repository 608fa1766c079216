"""The upstream behind k6's scenarios takes its time, and dies when it is told to."""

import asyncio
import sys
import time

import aiohttp
import pytest

from genkan.bench.chat_traffic import EVENTS, PATH
from genkan.bench.cores import divide
from genkan.bench.k6_upstream import DIE_PATH, K6Upstream
from genkan.bench.server_process import Command, ServerFailed, ServerProcess, running

ANSWER_S = 0.05
BODY = {"model": "any", "messages": [{"role": "user", "content": "request 0000000042"}]}


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_whole_and_as_late_as_it_was_set_to_be(stream: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: K6Upstream(loop, ANSWER_S), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        began_s = time.monotonic()
        async with session.post(PATH, json={**BODY, "stream": stream}) as response:
            text = await response.text()
    assert time.monotonic() - began_s >= ANSWER_S
    assert "request 0000000042" in text
    assert text.count("data: ") == (EVENTS if stream else 0)


def test_it_answers_once_more_and_is_killed() -> None:
    line = [sys.executable, "-m", "genkan.bench.k6_upstream", "{port}", "0"]
    with running(Command("upstream", line), divide().load) as upstream:
        upstream.wait_until_answered(request("GET", "/v1/models"))
        upstream.wait_until_answered(request("POST", DIE_PATH))
        with pytest.raises(ServerFailed, match="upstream ended with -9"):
            ask_forever(upstream)


def ask_forever(upstream: ServerProcess) -> None:
    while True:
        upstream.wait_until_answered(request("GET", "/v1/models"))


def request(method: str, path: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".encode()
