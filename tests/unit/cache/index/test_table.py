"""All partitions of a process: what is forgotten, and when."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from index_rigs import DIM, entry, name, vectors

from genkan.cache.index.base import MAX_SEEN, Entry
from genkan.cache.index.rows import best
from genkan.cache.index.table import QuestionTable

NOW_S = 1000.0


def aged(label: str, number: int, *, expires_s: float = NOW_S + 60, partition: str = "p") -> Entry:
    return replace(entry(label, vectors(1, seed=number)[0], partition=partition), expires_s=expires_s)


def texts(table: QuestionTable, partition: str = "p", *, number: int = 0, k: int = 50) -> list[str]:
    """What is found near the ``number``-th vector."""
    parts = table.search(name(partition), vectors(1, seed=number)[0], k, NOW_S)
    return [near.text for near in best([found for part in parts for found in part], k)]


def test_only_its_own_partition_is_searched() -> None:
    table = QuestionTable(10)
    table.add(aged("ours", 1))
    table.add(aged("theirs", 1, partition="q"))
    assert texts(table, number=1) == ["ours"]
    assert texts(table, "nobody's") == []
    assert (len(table), table.partitions) == (2, 2)


def test_the_oldest_is_forgotten_first_and_a_partition_without_entries_is_none() -> None:
    table = QuestionTable(3)
    for number, partition in enumerate("abbb"):
        table.add(aged(str(number), number, partition=partition))
    assert (len(table), table.partitions) == (3, 1)
    assert texts(table, "a") == []
    table.add(aged("4", 4, partition="b"))
    assert sorted(texts(table, "b")) == ["2", "3", "4"]


def test_the_same_entry_again_changes_nothing_and_a_new_one_takes_its_key() -> None:
    table = QuestionTable(10)
    table.add(aged("q", 1))
    table.saw(name("q"), name("p"), 0.9, True)
    table.add(aged("q", 1))
    assert table.seen(name("q")) == ((0.9, True),)
    table.add(aged("q", 1, expires_s=NOW_S + 90))  # another answer: nothing is known of it
    assert table.seen(name("q")) == ()
    assert texts(table) == ["q"]
    table.add(aged("q", 1, partition="elsewhere"))
    assert (texts(table), texts(table, "elsewhere"), len(table)) == ([], ["q"], 1)


def test_vectors_of_another_length_are_refused_and_find_nothing() -> None:
    table = QuestionTable(10)
    assert table.add(aged("q", 1))
    assert not table.add(replace(aged("long", 1), vector=vectors(1, dim=2 * DIM)[0]))
    assert list(table.search(name("p"), vectors(1, dim=2 * DIM)[0], 3, NOW_S)) == []
    assert texts(table) == ["q"]


def test_a_purge_takes_what_is_of_the_tenant_or_the_route() -> None:
    table = QuestionTable(10)
    for number, (tenant, route) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]):
        kept = aged(f"{tenant}{route}", number, partition=f"{tenant}{route}")
        table.add(replace(kept, tenant=tenant, route=route))
    table.saw(name("ax"), name("ax"), 0.5, False)
    table.purge("a", None)
    assert [len(texts(table, partition)) for partition in ("ax", "ay", "bx", "by")] == [0, 0, 1, 1]
    assert table.seen(name("ax")) == ()
    table.purge("a", "x")
    assert [len(texts(table, partition)) for partition in ("bx", "by")] == [0, 1]
    table.purge(None, None)
    assert (len(table), table.partitions, table.held_bytes) == (0, 0, 0)


def test_what_has_expired_is_not_found_and_a_sweep_forgets_it() -> None:
    table = QuestionTable(1000)
    for number in range(500):
        table.add(aged(str(number), number, expires_s=NOW_S + (1 if number % 2 else -1)))
    table.add(aged("gone", 1, expires_s=NOW_S, partition="q"))
    assert len(texts(table, k=1000)) == 250
    sweep = table.sweep(NOW_S)
    next(sweep)
    table.purge(None, "nobody's")
    assert len(list(sweep)) < 10
    assert (len(table), table.partitions) == (250, 1)


def test_a_sweep_ends_though_what_it_sweeps_is_purged_meanwhile() -> None:
    table = QuestionTable(1000)
    for number in range(500):
        table.add(aged(str(number), number, expires_s=NOW_S - 1))
    sweep = table.sweep(NOW_S)
    next(sweep)
    table.purge(None, None)
    table.add(aged("new", 1))
    list(sweep)
    assert texts(table) == ["new"]


def test_what_a_purge_took_is_given_back_though_some_of_it_came_again() -> None:
    table = QuestionTable(10)
    for label in ("stays away", "comes again"):
        table.add(aged(label, 1))
        table.saw(name(label), name("p"), 0.5, True)
    giving_back = table.purge(None, None)
    assert (len(table), table.seen(name("stays away")), texts(table)) == (0, (), [])
    table.saw(name("stays away"), name("p"), 0.5, True)
    table.remove(name("stays away"), name("p"))
    table.add(aged("comes again", 2))
    assert (len(table), table.seen(name("comes again"))) == (1, ())
    assert len(list(giving_back)) == 1
    table.saw(name("comes again"), name("p"), 0.25, False)
    assert table.seen(name("comes again")) == ((0.25, False),)
    assert texts(table) == ["comes again"]


def test_observations_are_kept_of_what_is_there_and_the_oldest_go_first() -> None:
    table = QuestionTable(10)
    table.add(aged("q", 1))
    table.saw(name("q"), name("another"), 0.1, True)
    table.saw(name("unknown"), name("p"), 0.1, True)
    assert (table.seen(name("q")), table.seen(name("unknown"))) == ((), ())
    for number in range(MAX_SEEN + 5):
        table.saw(name("q"), name("p"), float(number), number % 2 == 0)
    assert table.seen(name("q")) == tuple((float(n), n % 2 == 0) for n in range(5, MAX_SEEN + 5))
    table.remove(name("q"), name("another"))
    assert len(table) == 1
    table.remove(name("q"), name("p"))
    assert (table.seen(name("q")), len(table)) == ((), 0)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "add", "remove", "purge", "give back"]),
            st.integers(0, 30),
            st.integers(0, 3),
        ),
        max_size=120,
    ),
    limit=st.integers(1, 20),
)
def test_it_knows_what_a_plain_dictionary_would(steps: list[tuple[str, int, int]], limit: int) -> None:
    table, model, purged = QuestionTable(limit), dict[str, int](), list[Iterator[None]]()
    for step, (what, label, partition) in enumerate(steps):
        if what == "add":
            kept = aged(str(label), step, partition=str(partition), expires_s=NOW_S + 1 + step)
            table.add(replace(kept, tenant=str(partition)))
            model.pop(str(label), None)
            model[str(label)] = partition
            if len(model) > limit:
                del model[next(iter(model))]
        elif what == "remove":
            table.remove(name(str(label)), name(str(partition)))
            if model.get(str(label)) == partition:
                del model[str(label)]
        elif what == "give back":
            for going in purged:
                next(going, None)
        else:
            purged.append(table.purge(str(partition), None))
            model = {key: of for key, of in model.items() if of != partition}
    for partition in range(4):
        assert sorted(texts(table, str(partition))) == sorted(key for key, of in model.items() if of == partition)
    for going in purged:
        list(going)
    assert (len(table), table.partitions) == (len(model), len(set(model.values())))
    for key, of in model.items():
        table.saw(name(key), name(str(of)), 1.0, True)
        assert table.seen(name(key)) == ((1.0, True),)
        table.remove(name(key), name(str(of)))
    assert (len(table), table.partitions, table.held_bytes) == (0, 0, 0)
