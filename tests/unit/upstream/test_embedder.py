"""The client of the embedder's process, against a server of our choosing on a Unix socket."""

import asyncio
import base64
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from genkan.config import EmbedderConfig
from genkan.errors import ConnectFailed, ContextTooLong, InvalidRequest, TimedOut, UpstreamBroken, UpstreamRefused
from genkan.upstream.embedder import EmbedderClient

pytestmark = pytest.mark.anyio

Answering = Callable[[list[str]], tuple[int, Any]]
CONFIG = EmbedderConfig(max_batch_size=4, max_tokens=16)


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.5]


def item(text: str) -> dict[str, Any]:
    return {"tokens": len(text), "vector": base64.b64encode(np.array(vector_of(text), "<f4").tobytes()).decode()}


def well(texts: list[str]) -> tuple[int, Any]:
    return 200, [item(text) for text in texts]


@asynccontextmanager
async def embedder(answer: Answering) -> AsyncGenerator[tuple[EmbedderClient, list[tuple[str, list[str]]]], None]:
    """A client, and the heads and texts that its server has got."""
    asked: list[tuple[str, list[str]]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                texts = orjson.loads(await reader.readexactly(length))["texts"]
                asked.append((head, texts))
                status, content = answer(texts)
                body = content if isinstance(content, bytes) else orjson.dumps(content)
                more = "retry-after: 5\r\n" if status == 503 else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "e.sock")
        server = await asyncio.start_unix_server(serve, path)
        client = EmbedderClient(path, CONFIG)
        try:
            yield client, asked
        finally:
            await client.aclose()
            server.close()
            await asyncio.sleep(0)


async def test_vectors_and_tokens_come_back_in_the_order_of_the_texts() -> None:
    async with embedder(well) as (client, asked):
        embedded = await client.embed(["a", "bcd"], timeout_s=5)
    assert embedded.vectors.tolist() == [vector_of("query: a"), vector_of("query: bcd")]
    assert embedded.vectors.dtype == np.float32
    assert embedded.tokens == [8, 10]
    head, texts = asked[0]
    assert texts == ["query: a", "query: bcd"]
    assert head.startswith("POST /embed HTTP/1.1\r\n")
    assert "x-genkan-patience-ms: 5000\r\n" in head


async def test_many_texts_go_a_few_at_a_time() -> None:
    async with embedder(well) as (client, asked):
        embedded = await client.embed([f"{number}" for number in range(10)], timeout_s=5)
    assert [len(texts) for _, texts in asked] == [4, 4, 2]
    assert len(embedded.tokens) == len(embedded.vectors) == 10


async def test_a_text_that_is_too_long_is_named_among_all_of_the_requests() -> None:
    def answer(texts: list[str]) -> tuple[int, Any]:
        return 200, [{"tokens": 99, "vector": ""} if "long" in text else item(text) for text in texts]

    async with embedder(answer) as (client, _):
        with pytest.raises(ContextTooLong, match=r"16 tokens.*at least 99") as caught:
            await client.embed(["a"] * 5 + ["long"], timeout_s=5)
    assert caught.value.param == "input[5]"


async def test_a_refusal_of_the_embedders_is_passed_on_as_it_is() -> None:
    error = {"message": "full", "type": "service_unavailable_error", "param": None, "code": "server_is_overloaded"}
    async with embedder(lambda _: (503, {"error": error})) as (client, _):
        with pytest.raises(UpstreamRefused) as caught:
            await client.embed(["a"], timeout_s=5)
    refused = caught.value
    assert (refused.status, refused.code, refused.retry_after_s) == (503, "server_is_overloaded", 5)


@pytest.mark.parametrize(
    "content",
    [b"", b"[", {}, [], [{}], [{"tokens": 1, "vector": "?"}], [{"tokens": 1, "vector": "AAA="}], [{"tokens": None}]],
)
async def test_an_answer_that_is_none_is_an_error_of_the_embedders(content: Any) -> None:
    async with embedder(lambda _: (200, content)) as (client, _):
        with pytest.raises(UpstreamBroken, match="malformed"):
            await client.embed(["a"], timeout_s=5)


async def test_vectors_of_different_lengths_are_malformed() -> None:
    def answer(texts: list[str]) -> tuple[int, Any]:
        return 200, [item(texts[0]), {**item(texts[1]), "vector": "AACAPw=="}]

    async with embedder(answer) as (client, _):
        with pytest.raises(UpstreamBroken):
            await client.embed(["a", "b"], timeout_s=5)


async def test_an_empty_text_does_not_go_there() -> None:
    async with embedder(well) as (client, asked):
        with pytest.raises(InvalidRequest):
            await client.embed([""], timeout_s=5)
    assert asked == []


async def test_no_texts_ask_nothing() -> None:
    async with embedder(well) as (client, asked):
        assert len((await client.embed([], timeout_s=5)).vectors) == 0
    assert asked == []


async def test_an_embedder_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    client = EmbedderClient(str(tmp_path / "none"), CONFIG)
    with pytest.raises(ConnectFailed, match="cannot be reached"):
        await client.embed(["a"], timeout_s=5)
    await client.aclose()


async def test_one_that_is_silent_is_late() -> None:
    silent = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "e.sock")
        server = await asyncio.start_unix_server(hold, path)
        client = EmbedderClient(path, CONFIG)
        with pytest.raises(TimedOut) as caught:
            await client.embed(["a"], timeout_s=0.05)
        assert caught.value.phase == "total"
        silent.set()
        await client.aclose()
        server.close()
        await asyncio.sleep(0)
