"""Model servers' metrics, fetched: from those that answer, and no later than the others' time is over."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from model_servers import Handler, model_server

from genkan.config import OpenAiUpstreamConfig, ServeConfig
from genkan.model_servers import scrape
from genkan.model_servers.scrape import ServerScraper

pytestmark = pytest.mark.anyio
TEXT = "# TYPE vllm:x gauge\nvllm:x 1\n"
SHORT_S = 0.3


def upstream(name: str, port: int) -> OpenAiUpstreamConfig:
    serve = ServeConfig(model="m", port=port)
    return OpenAiUpstreamConfig(name=name, kind="vllm", serve=serve)


def saying(body: str, status: str = "200 OK") -> Handler:
    async def handler(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert request.startswith("GET /metrics HTTP/1.1\r\n")
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    return handler


async def silent(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client goes


@asynccontextmanager
async def scraper(*upstreams: OpenAiUpstreamConfig) -> AsyncGenerator[ServerScraper, None]:
    one = ServerScraper(upstreams, timeout_s=SHORT_S)
    yield one
    await one.aclose()


async def test_all_are_asked_and_each_sample_says_whose_it_is() -> None:
    async with (
        model_server(saying(TEXT)) as a,
        model_server(saying(TEXT)) as b,
        scraper(upstream("v-0", a.port), upstream("v-1", b.port)) as one,
    ):
        assert await one.text() == '# TYPE vllm:x gauge\nvllm:x{upstream="v-0"} 1\nvllm:x{upstream="v-1"} 1\n'


async def test_those_that_are_dead_or_silent_or_broken_cost_their_time_once_and_the_others_nothing() -> None:
    async with (
        model_server(saying(TEXT)) as well,
        model_server(silent) as mute,
        model_server(saying("", "500 No")) as ill,
    ):
        async with model_server(silent) as gone:
            dead = upstream("dead", gone.port)
        mutes = [upstream(f"mute-{index}", mute.port) for index in range(5)]
        async with scraper(*mutes, dead, upstream("ill", ill.port), upstream("well", well.port)) as one:
            began_s = time.monotonic()
            assert await one.text() == '# TYPE vllm:x gauge\nvllm:x{upstream="well"} 1\n'
            assert time.monotonic() - began_s < 4 * SHORT_S  # one after the other it would be five times


async def test_one_that_says_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_BYTES", 1000)
    async with model_server(saying(TEXT * 100)) as server, scraper(upstream("v", server.port)) as one:
        assert await one.text() == ""


async def test_upstreams_that_others_start_are_not_asked() -> None:
    elsewhere = OpenAiUpstreamConfig(name="v", kind="vllm", base_url="http://127.0.0.1:1/v1")
    async with scraper(elsewhere) as one:
        assert await one.text() == ""
