"""What is wrong with the blocks is noticed, whatever it is."""

from collections.abc import Callable

import pytest
from schedules import Rig, prompt, rig

from genkan.engine.prefix_page import path
from genkan.engine.sequence import Sequence


@pytest.fixture
def r() -> Rig:
    """Two sequences with two pages each and a block of their own, and one that waits."""
    made = rig(8, max_sequences=2, host_blocks=4, budget=32)
    for place in range(2):
        made.submit(prompt(9, 100 * place), max_tokens=8)
    made.submit(prompt(9, 200))
    made.step()
    made.step()
    return made


def test_what_is_sound_passes(r: Rig) -> None:
    r.scheduler.check()
    r.run()
    r.scheduler.check()


def lose(r: Rig, sequence: Sequence) -> None:
    del sequence.blocks[-1]


def share(r: Rig, sequence: Sequence) -> None:
    sequence.blocks[-1] = r.scheduler.running[1].blocks[-1]


def free(r: Rig, sequence: Sequence) -> None:
    r.pool.give_back(sequence.blocks[-1:])


def exchange(r: Rig, sequence: Sequence) -> None:
    sequence.blocks[0], sequence.blocks[1] = sequence.blocks[1], sequence.blocks[0]


def lock_twice(r: Rig, sequence: Sequence) -> None:
    assert sequence.page is not None
    for page in path(sequence.page):
        page.refs += 1


def lose_of_the_host(r: Rig, sequence: Sequence) -> None:
    r.host.take(1)


def give_to_one_that_waits(r: Rig, sequence: Sequence) -> None:
    (waiting,) = r.scheduler.waiting
    waiting.blocks.append(0)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lose, "a block is lost"),
        (share, "in two sequences"),
        (free, "is free"),
        (exchange, "not its page's"),
        (lock_twice, "other locks"),
        (lose_of_the_host, "the host's is lost"),
        (give_to_one_that_waits, "waits has blocks"),
    ],
)
def test_what_is_not_is_told(r: Rig, damage: Callable[[Rig, Sequence], None], told: str) -> None:
    damage(r, r.scheduler.running[0])
    with pytest.raises(AssertionError, match=told):
        r.scheduler.check()
