"""Who gets which core."""

import os

import pytest

from genkan.bench.cores import Cores, divide, pinned


def test_the_server_and_the_load_get_a_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {6, 2, 4})
    assert divide() == Cores(frozenset({2}), frozenset({4}))


def test_one_core_is_shared_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    assert divide() == Cores(frozenset({3}), frozenset({3}))
    assert "one core only" in capsys.readouterr().err


def test_pinning_ends_with_the_block() -> None:
    before = os.sched_getaffinity(0)
    one = frozenset([min(before)])
    with pinned(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == before
