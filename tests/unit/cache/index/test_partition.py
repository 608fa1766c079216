"""A partition that is large enough for a graph finds what one without would find."""

import asyncio

import numpy as np
import pytest
from index_rigs import name, near, vectors

from genkan.cache.index import graph as graphs
from genkan.cache.index import partition as partition_module
from genkan.cache.index.base import Matrix, Vector
from genkan.cache.index.partition import Partition
from genkan.cache.index.rows import best

pytestmark = pytest.mark.anyio

DIM = 96
ENTRIES = 3000


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "GRAPH_FROM", 2000)
    monkeypatch.setattr(partition_module, "_TAIL", 200)


@pytest.fixture
def has_usearch() -> None:
    if not graphs.is_available():
        pytest.skip("usearch is not installed")


@pytest.fixture(scope="module")
def questions() -> Matrix:
    """Vectors in heaps, as those of questions are."""
    middles = vectors(100, seed=1, dim=DIM)
    drawn = middles[np.arange(ENTRIES) % 100] + 0.6 * vectors(ENTRIES, seed=2, dim=DIM)
    unit: Matrix = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def filled(questions: Matrix, count: int = ENTRIES) -> Partition:
    partition = Partition("acme", "chat", DIM)
    for number in range(count):
        partition.rows.add(name(str(number)), str(number), questions[number], 100.0)
    return partition


def found(partition: Partition, query: Vector, k: int = 1) -> list[str]:
    parts = list(partition.nearest(query, k, 0.0))
    return [one.text for one in best([found for part in parts for found in part], k)]


def parts(partition: Partition, query: Vector) -> int:
    return len(list(partition.nearest(query, 1, 0.0)))


@pytest.mark.usefixtures("has_usearch")
async def test_a_graph_finds_the_nearest_in_95_of_100_cases(questions: Matrix) -> None:
    partition = filled(questions)
    assert partition.wants_graph()
    await partition.extend_graph()
    assert partition.has_graph
    assert not partition.wants_graph()
    queries = [near(questions[number], seed=number, apart=0.5) for number in range(0, ENTRIES, 15)]
    right = [found(partition, query) == [str(int((questions @ query).argmax()))] for query in queries]
    assert np.mean(right) >= 0.95
    assert parts(partition, queries[0]) == 2  # the graph, and the last block, which may grow


@pytest.mark.usefixtures("has_usearch")
async def test_what_is_added_and_removed_after_the_graph_was_made_counts(questions: Matrix) -> None:
    partition = filled(questions, 2500)
    await partition.extend_graph()
    for number in range(2500, 2600):
        partition.rows.add(name(str(number)), str(number), questions[number], 100.0)
    assert not partition.wants_graph()
    assert found(partition, questions[2550]) == ["2550"]
    partition.rows.remove(name("17"))
    assert "17" not in found(partition, questions[17], 5)
    assert found(partition, questions[18]) == ["18"]
    for number in range(2600, ENTRIES):
        partition.rows.add(name(str(number)), str(number), questions[number], 100.0)
    assert partition.wants_graph()
    await partition.extend_graph()
    assert not partition.wants_graph()
    assert found(partition, questions[2999]) == ["2999"]


@pytest.mark.usefixtures("has_usearch")
async def test_while_it_is_made_rows_are_searched(questions: Matrix) -> None:
    partition = filled(questions)
    making = asyncio.get_running_loop().create_task(partition.extend_graph())
    looked = 0
    while not making.done():
        number = looked % ENTRIES
        assert found(partition, questions[number]) == [str(number)]
        looked += 1
        await asyncio.sleep(0)
    await making
    assert looked > 1
    assert partition.has_graph


@pytest.mark.usefixtures("has_usearch")
async def test_a_graph_goes_when_few_entries_are_left(questions: Matrix) -> None:
    partition = filled(questions)
    await partition.extend_graph()
    for number in range(2100):
        partition.rows.remove(name(str(number)))
    assert partition.wants_graph()
    await partition.extend_graph()
    assert not partition.has_graph
    assert not partition.wants_graph()
    assert found(partition, questions[2500]) == ["2500"]


@pytest.mark.usefixtures("has_usearch")
async def test_a_graph_of_which_most_is_gone_is_made_anew(questions: Matrix) -> None:
    partition = filled(questions)
    await partition.extend_graph()
    for number in range(1900):
        partition.rows.remove(name(str(number)))
    for number in range(1900):
        partition.rows.add(name(f"new {number}"), f"new {number}", -questions[number], 100.0)
        if number == 1500:
            await partition.extend_graph()
    for number in range(1900, ENTRIES):
        partition.rows.remove(name(str(number)))
    assert partition.wants_graph()
    await partition.extend_graph()
    assert found(partition, -questions[1700]) == ["new 1700"]
    assert not partition.wants_graph()


async def test_without_usearch_rows_are_searched(questions: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "is_available", lambda: False)
    partition = filled(questions)
    await partition.extend_graph()
    assert not partition.has_graph
    assert found(partition, questions[2222]) == ["2222"]


@pytest.mark.usefixtures("has_usearch")
async def test_one_that_is_cancelled_while_it_is_made_goes_on_without(questions: Matrix) -> None:
    partition = filled(questions)
    making = asyncio.get_running_loop().create_task(partition.extend_graph())
    await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not partition.has_graph
    assert found(partition, questions[5]) == ["5"]
    await partition.extend_graph()
    assert partition.has_graph
