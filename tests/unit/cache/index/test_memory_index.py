"""What the index in this process does by itself."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from index_rigs import Noted, SetClock, entry, name, vectors
from redis_faults import until

from genkan.cache.index import graph as graphs
from genkan.cache.index import memory as memory_module
from genkan.cache.index import partition as partition_module
from genkan.cache.index import rows as rows_module
from genkan.cache.index.memory import MemoryIndex

pytestmark = pytest.mark.anyio


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def index(clock: SetClock, noted: Noted, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[MemoryIndex, None]:
    monkeypatch.setattr(memory_module, "_TEND_EVERY_S", 0.001)
    index = MemoryIndex(clock, noted, max_entries=1000)
    await index.start()
    yield index
    await index.aclose()


async def test_what_expires_is_forgotten_though_nobody_looks_for_it(index: MemoryIndex, clock: SetClock) -> None:
    for number, vector in enumerate(vectors(300)):
        await index.add(entry(str(number), vector, partition=str(number % 3), ttl_s=60.0 if number % 2 else 600.0))
    clock.ahead_s = 61.0
    await until(lambda: index.size == 150)
    clock.ahead_s = 601.0
    await until(lambda: index.statistics().partitions == 0)
    assert index.statistics().held_bytes == 0


async def test_a_long_search_lets_others_run(index: MemoryIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_BLOCK_ELEMENTS", 1)  # a row a block
    drawn = vectors(100)
    for number, vector in enumerate(drawn):
        await index.add(entry(str(number), vector))
    searching = asyncio.get_running_loop().create_task(index.search(name("p"), drawn[3], k=1, timeout_s=1.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not searching.done()
    await index.remove(name("90"), name("p"))
    assert [near.text for near in await searching] == ["3"]


async def test_a_graph_is_made_where_entries_are_many(
    index: MemoryIndex, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not graphs.is_available():
        pytest.skip("usearch is not installed")
    monkeypatch.setattr(partition_module, "GRAPH_FROM", 100)
    drawn = vectors(300)
    for number, vector in enumerate(drawn):
        await index.add(entry(str(number), vector))
    await until(lambda: index.statistics().graphs == 1)
    for number in range(0, 300, 10):
        found = await index.search(name("p"), drawn[number], k=1, timeout_s=1.0)
        assert [near.text for near in found] == [str(number)]
    assert not noted.failures


async def test_a_graph_that_cannot_be_made_is_counted_and_rows_are_searched(
    index: MemoryIndex, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(graphs, "is_available", lambda: True)
    monkeypatch.setattr(graphs.Graph, "add", broken)
    monkeypatch.setattr(partition_module, "GRAPH_FROM", 100)
    drawn = vectors(150)
    for number, vector in enumerate(drawn):
        await index.add(entry(str(number), vector))
    await until(lambda: noted.failures["index"] >= 2)
    assert [near.text for near in await index.search(name("p"), drawn[3], k=1, timeout_s=1.0)] == ["3"]


@pytest.mark.parametrize("k", [0, -1])
async def test_nothing_is_found_if_nothing_is_asked_for(index: MemoryIndex, k: int) -> None:
    await index.add(entry("q", vectors(1)[0]))
    assert await index.search(name("p"), vectors(1)[0], k=k, timeout_s=1.0) == []
