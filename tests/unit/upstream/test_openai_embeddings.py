"""Embeddings from a server with OpenAI's API, against one that says what we choose."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from upstream_calls import KEY, openai_upstream

from genkan.config import EmbedderConfig
from genkan.errors import TimedOut, UpstreamBroken, UpstreamFull, UpstreamRefused, UpstreamUnauthorized
from genkan.upstream.openai_embeddings import OpenAiEmbeddings

pytestmark = pytest.mark.anyio

Answering = Callable[[dict[str, Any]], tuple[int, Any]]


def well(asked: dict[str, Any]) -> tuple[int, Any]:
    data = [{"index": place, "embedding": [3.0, 4.0 + len(text)]} for place, text in enumerate(asked["input"])]
    return 200, {"data": data[::-1], "usage": {"prompt_tokens": 30, "total_tokens": 30}}


class Server:
    """What it was asked, and how it answers; while ``gate`` is clear it does not."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                asked = orjson.loads(await reader.readexactly(length))
                self.asked.append((head, asked))
                self.arrived.set()
                await self.gate.wait()
                status, content = self.answer(asked)
                body = orjson.dumps(content)
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def embeddings(
    answer: Answering = well, config: EmbedderConfig | None = None, **settings: Any
) -> AsyncGenerator[tuple[OpenAiEmbeddings, Server], None]:
    scripted = Server(answer)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with openai_upstream(f"http://127.0.0.1:{port}/v1", **settings) as upstream:
        yield OpenAiEmbeddings(upstream, "there-3-small", config or EmbedderConfig()), scripted
    server.close()
    await asyncio.sleep(0)


async def test_vectors_have_length_one_and_stand_in_the_order_of_the_texts() -> None:
    async with embeddings() as (embeds, server):
        embedded = await embeds.embed(["a" * 5, "b"], timeout_s=5)
    assert np.allclose(np.linalg.norm(embedded.vectors, axis=1), 1)
    assert np.allclose(embedded.vectors[1], np.array([3, 5]) / np.sqrt(34))
    head, asked = server.asked[0]
    assert asked == {"model": "there-3-small", "input": ["aaaaa", "b"], "encoding_format": "float"}
    assert head.startswith("POST /v1/embeddings HTTP/1.1\r\n")
    assert f"authorization: Bearer {KEY}\r\n" in head


async def test_tokens_are_told_apart_by_length_and_are_together_what_the_server_counted() -> None:
    async with embeddings() as (embeds, _):
        assert (await embeds.embed(["a" * 20, "b" * 10], timeout_s=5)).tokens == [20, 10]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "7"}, {"prompt_tokens": -1}])
async def test_a_server_that_does_not_count_is_taken_to_need_a_token_for_four_bytes(usage: Any) -> None:
    async with embeddings(lambda asked: (200, {**well(asked)[1], "usage": usage})) as (embeds, _):
        assert (await embeds.embed(["a" * 20], timeout_s=5)).tokens == [5]


async def test_vectors_may_come_as_base64() -> None:
    data = [{"index": 0, "embedding": base64.b64encode(np.array([0, 2], "<f4").tobytes()).decode()}]
    async with embeddings(lambda _: (200, {"data": data})) as (embeds, _):
        assert (await embeds.embed(["a"], timeout_s=5)).vectors.tolist() == [[0, 1]]


async def test_the_prefix_is_put_before_texts_only_where_the_configuration_sets_one() -> None:
    async with embeddings(config=EmbedderConfig(prefix="search: ")) as (embeds, server):
        await embeds.embed(["a"], timeout_s=5)
    assert server.asked[0][1]["input"] == ["search: a"]


async def test_many_texts_go_in_several_requests() -> None:
    async with embeddings() as (embeds, server):
        embedded = await embeds.embed([f"{number}" for number in range(600)], timeout_s=5)
    assert [len(asked["input"]) for _, asked in server.asked] == [256, 256, 88]
    assert len(embedded.vectors) == len(embedded.tokens) == 600


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"data": []},
        {"data": [{"index": 1, "embedding": [1]}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [0, 0]}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": "?"}]},
        {"data": [7]},
        {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}]},
    ],
)
async def test_an_answer_without_a_vector_for_each_text_is_malformed(content: Any) -> None:
    async with embeddings(lambda _: (200, content)) as (embeds, _):
        with pytest.raises(UpstreamBroken, match="malformed"):
            await embeds.embed(["a"], timeout_s=5)


async def test_its_errors_are_read_as_those_of_any_upstream() -> None:
    error = {"error": {"message": "maximum context length is 8192 tokens", "type": "x", "code": None}}
    async with embeddings(lambda _: (400, error)) as (embeds, _):
        with pytest.raises(UpstreamRefused) as caught:
            await embeds.embed(["a"], timeout_s=5)
    assert caught.value.code == "context_length_exceeded"
    async with embeddings(lambda _: (401, {})) as (embeds, _):
        with pytest.raises(UpstreamUnauthorized):
            await embeds.embed(["a"], timeout_s=5)


async def test_one_that_takes_too_long_is_late() -> None:
    async with embeddings() as (embeds, server):
        server.gate.clear()
        with pytest.raises(TimedOut) as caught:
            await embeds.embed(["a"], timeout_s=0.05)
        assert caught.value.phase == "total"
        server.gate.set()


async def test_requests_count_among_those_in_flight_there() -> None:
    async with embeddings(connections={"limit": 1, "queue": 0}) as (embeds, server):
        server.gate.clear()
        first = asyncio.create_task(embeds.embed(["a"], timeout_s=5))
        await server.arrived.wait()
        with pytest.raises(UpstreamFull):
            await embeds.embed(["b"], timeout_s=5)
        server.gate.set()
        assert len((await first).vectors) == 1
