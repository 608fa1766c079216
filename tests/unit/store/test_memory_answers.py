"""What holds only for answers in memory: time and room. The rest is the contract's."""

import pytest
from hand_clock import HandClock

from genkan.store.memory_answers import MemoryAnswers

pytestmark = pytest.mark.anyio


async def value(answers: MemoryAnswers, key: bytes) -> bytes | None:
    return (await answers.look(key, (), timeout_s=1)).value


async def test_it_runs_out_when_its_time_is_over() -> None:
    clock = HandClock()
    answers = MemoryAnswers(clock, limit_bytes=1 << 20)
    await answers.put(b"a", b"x", ttl_s=5)
    clock.advance(4.9)
    assert await value(answers, b"a") == b"x"
    clock.advance(0.1)  # being found has not prolonged it
    assert (await answers.statistics()).entries == 0
    assert await value(answers, b"a") is None


async def test_what_was_used_longest_ago_goes_first() -> None:
    answers = MemoryAnswers(HandClock(), limit_bytes=3 * 1300)
    for key in (b"a", b"b", b"c"):
        await answers.put(key, bytes(1000), ttl_s=5)
    assert await value(answers, b"a") is not None
    await answers.put(b"d", bytes(1000), ttl_s=5)
    assert [await value(answers, key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


async def test_one_that_is_put_again_takes_its_room_once() -> None:
    answers = MemoryAnswers(HandClock(), limit_bytes=2 * 1300)
    await answers.put(b"a", b"x", ttl_s=5)
    for _ in range(10):
        await answers.put(b"b", bytes(1000), ttl_s=5)
    assert await value(answers, b"a") == b"x"


async def test_one_that_is_larger_than_all_is_not_kept() -> None:
    answers = MemoryAnswers(HandClock(), limit_bytes=1000)
    await answers.put(b"a", bytes(1000), ttl_s=5)
    assert await value(answers, b"a") is None
    assert (await answers.statistics()).n_bytes == 0


async def test_without_end_there_are_no_more_epochs_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.store.memory_answers._MOST_EPOCHS", 10)
    answers = MemoryAnswers(HandClock(), limit_bytes=1000)
    first = (await answers.look(b"a", ("t:0",), timeout_s=1)).epochs
    for number in range(1, 11):
        await answers.look(b"a", (f"t:{number}",), timeout_s=1)
    assert (await answers.look(b"a", ("t:0",), timeout_s=1)).epochs != first
