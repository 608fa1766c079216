"""Rows that grow, are struck out, and are found as by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_rigs import DIM, name, near, vectors

from genkan.cache.index import rows as rows_module
from genkan.cache.index.rows import Found, Rows, best

NOW_S = 100.0


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_BLOCK_ELEMENTS", 12 * DIM)


def found_in(rows: Rows, query: np.ndarray[tuple[int], np.dtype[np.float32]], k: int, now_s: float) -> list[bytes]:
    parts = [rows.nearest(number, query, k, now_s) for number in rows.blocks_from(rows.first)]
    return [one.key for one in best([found for part in parts for found in part], k)]


# Each step adds, removes or replaces one of a few keys; some expire at once.
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 40), st.booleans()), max_size=150)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, k=st.integers(1, 20))
def test_what_is_found_is_what_brute_force_finds(steps: list[tuple[str, int, bool]], k: int) -> None:
    rows, drawn, model = Rows(DIM), vectors(len(steps) + 1), dict[bytes, tuple[int, float]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_BLOCK_ELEMENTS", 12 * DIM)
        for step, (what, label, is_over) in enumerate(steps):
            key = name(str(label))
            if key in rows:
                rows.remove(key)
                del model[key]
            if what == "add":
                expires_s = NOW_S - 1 if is_over else NOW_S + 1
                rows.add(key, str(label), drawn[step], expires_s)
                model[key] = (step, expires_s)
    query = drawn[-1]
    living = {key: float(drawn[step] @ query) for key, (step, expires_s) in model.items() if expires_s > NOW_S}
    assert found_in(rows, query, k, NOW_S) == sorted(living, key=lambda key: -living[key])[:k]
    assert set(rows.expired(NOW_S, 1000)) == {key for key, (_, expires_s) in model.items() if expires_s <= NOW_S}
    assert len(rows) == len(model)


def test_blocks_that_are_struck_out_go_from_the_front() -> None:
    rows, drawn = Rows(DIM), vectors(60)
    for number in range(60):
        rows.add(name(str(number)), str(number), drawn[number], NOW_S + 1)
    held_bytes = rows.held_bytes
    for number in range(50):
        rows.remove(name(str(number)))
    assert (rows.first, rows.end) == (48, 60)
    assert rows.held_bytes < held_bytes / 4
    assert found_in(rows, drawn[55], 1, NOW_S) == [name("55")]


def test_the_numbers_of_rows_stay_and_those_that_went_are_not_found_by_them() -> None:
    rows, drawn = Rows(DIM), vectors(40)
    for number in range(40):
        rows.add(name(str(number)), str(number), drawn[number], NOW_S + 1)
    for number in [*range(13), 20]:
        rows.remove(name(str(number)))
    found = rows.among([3, 12, 20, 30, 39], drawn[30], NOW_S)
    assert [one.text for one in found] == ["30", "39"]
    assert found[0].cosine == pytest.approx(1.0, abs=1e-5)
    numbers, copied = rows.living(0, 25)
    assert numbers.tolist() == [13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24]
    assert np.array_equal(copied, drawn[numbers.astype(int)])


def test_what_is_given_up_goes_block_by_block_while_others_may_still_search_it() -> None:
    rows, drawn = Rows(DIM), vectors(30)
    for number in range(30):
        rows.add(name(str(number)), str(number), drawn[number], NOW_S + 1)
    blocks = rows.blocks_from(rows.first)
    draining = rows.drain()
    assert next(draining) == [name(str(number)) for number in range(12)]
    assert rows.nearest(blocks[0], drawn[3], 1, NOW_S) == []
    assert rows.nearest(blocks[1], drawn[13], 1, NOW_S)[0].text == "13"
    assert rows.among([3, 13], drawn[13], NOW_S)[0].text == "13"
    assert [len(keys) for keys in draining] == [12, 6]
    assert (len(rows), rows.held_bytes, rows.blocks_from(0)) == (0, 0, range(3, 3))


def test_a_block_never_holds_more_than_openblas_computes_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows, drawn = Rows(384), vectors(1500, dim=384)
    for number in range(1500):
        rows.add(name(str(number)), "", drawn[number], NOW_S + 1)
    assert len(rows.blocks_from(0)) == 3
    assert rows.held_bytes / len(rows.blocks_from(0)) / 4 < 460_800


def test_best_names_each_once_with_its_greatest_cosine() -> None:
    parts = [Found(0.5, b"a", "A"), Found(0.9, b"b", "B"), Found(0.7, b"a", "A"), Found(1.0000001, b"c", "C")]
    assert best(parts, 2) == [(b"c", "C", 1.0), (b"b", "B", 0.9)]
    assert best(parts, 9)[2] == (b"a", "A", 0.7)


def test_a_question_close_by_is_found_among_many() -> None:
    rows, drawn = Rows(DIM), vectors(300)
    for number in range(300):
        rows.add(name(str(number)), str(number), drawn[number], NOW_S + 1)
    assert all(found_in(rows, near(drawn[n], seed=n), 1, NOW_S) == [name(str(n))] for n in range(0, 300, 17))
