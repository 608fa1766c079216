"""The fast upstream speaks HTTP that an ordinary client understands."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from genkan.bench.chat_traffic import EVENTS, MODEL, PATH
from genkan.bench.fake_upstream import FakeUpstream

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "request 0000000042"}]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeUpstream(loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def test_a_whole_answer_repeats_the_number(session: aiohttp.ClientSession) -> None:
    for _ in range(2):  # over the same connection
        async with session.post(PATH, json=CHAT) as response:
            answer = await response.json()
            assert answer["choices"][0]["message"]["content"].startswith("request 0000000042")


async def test_a_stream_has_all_its_events(session: aiohttp.ClientSession) -> None:
    for _ in range(2):
        async with session.post(PATH, json={**CHAT, "stream": True}) as response:
            assert response.content_type == "text/event-stream"
            body = await response.read()
            assert body.count(b"data: ") == EVENTS
            assert b"request 0000000042" in body


async def test_events_are_written_one_by_one(session: aiohttp.ClientSession) -> None:
    async with session.post(PATH, json={**CHAT, "stream": True}) as response:
        reads = [read async for read in response.content.iter_any()]
    assert len(reads) > 1


async def test_a_request_in_pieces(session: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in text:
            yield bytes([byte])

    text = json.dumps(CHAT).encode()
    async with session.post(PATH, data=pieces(), headers={"content-length": str(len(text))}) as response:
        assert response.status == 200


async def test_its_models_are_listed(session: aiohttp.ClientSession) -> None:
    async with session.get("/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL]


async def test_other_requests_are_refused(session: aiohttp.ClientSession) -> None:
    async with session.post(PATH, json={}) as response:
        assert response.status == 400


async def test_a_client_that_leaves_in_the_middle_of_a_stream_harms_no_one(session: aiohttp.ClientSession) -> None:
    async with session.post(PATH, json={**CHAT, "stream": True}) as response:
        await response.content.readany()
        response.close()
    async with session.post(PATH, json=CHAT) as response:
        assert response.status == 200
