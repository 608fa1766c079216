"""Which index is taken, of those that Redis has."""

import logging
from pathlib import Path

import pytest
from index_rigs import SEALER, TTL_S, Noted, entry, name, vectors
from redis_faults import connected_client, until
from redis_servers import Kind, running_redis

from genkan.cache.index.base import VectorIndex
from genkan.cache.index.probe import index_in
from genkan.clock import SystemClock
from genkan.config.cache import IndexKind
from genkan.store.address import parse_address
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio


async def made(client: RespClient, url: str, wanted: IndexKind, *, embedder: str = "e5") -> VectorIndex:
    return await index_in(
        client,
        parse_address(url),
        wanted=wanted,
        prefix="genkan",
        embedder=embedder,
        sealer=SEALER,
        clock=SystemClock(),
        observer=Noted(),
        longest_s=TTL_S,
        max_entries=100,
        connect_s=2.0,
        timeout_s=1.0,
    )


@pytest.mark.parametrize(
    ("kind", "wanted", "taken"),
    [
        ("redis8", "auto", "memory"),
        ("redis8", "memory", "memory"),
        ("redis8", "vectorset", "vectorset"),
        ("redis8", "search", "memory"),
        ("embedded", "vectorset", "memory"),
        ("embedded", "search", "memory"),
        ("debian", "vectorset", "memory"),
    ],
)
async def test_what_redis_does_not_have_is_replaced_with_a_warning(
    kind: Kind, wanted: IndexKind, taken: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_redis(kind, tmp_path) as redis:
        async with connected_client(redis.url) as client:
            with caplog.at_level(logging.WARNING, logger="genkan.cache"):
                index = await made(client, redis.url, wanted)
    assert index.statistics().kind == taken
    assert bool(caplog.records) == (wanted not in ("auto", taken))


async def test_without_redis_it_is_the_one_in_this_process(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody"
    async with connected_client(url, connect_s=0.05) as client:
        for wanted in ("vectorset", "search"):
            assert (await made(client, url, wanted)).statistics().kind == "memory"


async def test_the_vectors_of_another_embedder_are_kept_apart(tmp_path: Path) -> None:
    with running_redis("embedded", tmp_path) as redis:
        async with connected_client(redis.url) as client:
            indexes = [await made(client, redis.url, "auto", embedder=embedder) for embedder in ("e5", "e5", "bge")]
            try:
                for index in indexes:
                    await index.start()
                await indexes[0].add(entry("q", vectors(1)[0]))
                await until(lambda: indexes[1].size == 1 and all(index.is_ready for index in indexes))
                assert await indexes[2].search(name("p"), vectors(1)[0], k=1, timeout_s=1.0) == []
            finally:
                for index in indexes:
                    await index.aclose()
