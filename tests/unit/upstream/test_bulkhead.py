"""Places and the queue for them: never too many, none lost, first come first served."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.upstream.bulkhead import Bulkhead, Full


async def turns(number: int = 3) -> None:
    """Let every task run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_free_place_is_taken_without_a_turn_of_the_loop() -> None:
    bulkhead = Bulkhead(2, 0)
    for in_use in (1, 2):
        with pytest.raises(StopIteration):  # it ends before it waits for anything
            bulkhead.acquire().send(None)
        assert bulkhead.in_use == in_use


@pytest.mark.anyio
@pytest.mark.parametrize("limit", range(4))
async def test_to_try_takes_a_place_where_acquire_would_and_no_other(limit: int) -> None:
    tried, acquired = Bulkhead(limit, 0), Bulkhead(limit, 0)
    for _ in range(5):
        try:
            await acquired.acquire()
        except Full:
            assert not tried.try_acquire()
        else:
            assert tried.try_acquire()
        assert tried.in_use == acquired.in_use


@pytest.mark.anyio
async def test_who_tries_does_not_step_in_before_who_waits() -> None:
    bulkhead = Bulkhead(1, 1)
    await bulkhead.acquire()
    waiter = asyncio.create_task(bulkhead.acquire())
    await turns()
    bulkhead.release()
    assert not bulkhead.try_acquire()
    await waiter


@pytest.mark.anyio
async def test_a_full_queue_refuses_at_once() -> None:
    bulkhead = Bulkhead(1, 1)
    await bulkhead.acquire()
    waiter = asyncio.create_task(bulkhead.acquire())
    await turns()
    with pytest.raises(Full, match="1 requests are in work and 1 wait") as refused:
        bulkhead.acquire().send(None)
    assert (refused.value.limit, refused.value.queue) == (1, 1)
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 1)
    bulkhead.release()
    await waiter


@pytest.mark.anyio
async def test_without_a_queue_nobody_waits() -> None:
    bulkhead = Bulkhead(1, 0)
    await bulkhead.acquire()
    with pytest.raises(Full):
        await bulkhead.acquire()
    bulkhead.release()
    await bulkhead.acquire()


@pytest.mark.anyio
async def test_limit_0_is_no_limit() -> None:
    bulkhead = Bulkhead(0, 0)
    for _ in range(10_000):
        await bulkhead.acquire()
    assert bulkhead.in_use == 10_000
    bulkhead.release()
    assert bulkhead.in_use == 9_999


@pytest.mark.anyio
async def test_a_place_goes_to_who_waits_longest_and_nobody_steps_in_between() -> None:
    bulkhead, order = Bulkhead(1, 10), list[str]()

    async def ask(name: str) -> None:
        await bulkhead.acquire()
        order.append(name)

    await bulkhead.acquire()
    tasks = [asyncio.create_task(ask(name)) for name in "ab"]
    await turns()
    bulkhead.release()
    tasks.append(asyncio.create_task(ask("late")))  # it runs before the place's new owner noticed
    assert bulkhead.in_use == 1
    for _ in range(2):
        await turns()
        bulkhead.release()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "late"]


@pytest.mark.anyio
async def test_who_is_cancelled_while_it_waits_leaves_the_queue() -> None:
    bulkhead = Bulkhead(1, 1)
    await bulkhead.acquire()
    gone = asyncio.create_task(bulkhead.acquire())
    await turns()
    gone.cancel()
    await turns()
    assert bulkhead.waiting == 0
    waiter = asyncio.create_task(bulkhead.acquire())
    await turns()
    bulkhead.release()
    await waiter
    assert bulkhead.in_use == 1


@pytest.mark.anyio
async def test_who_is_cancelled_with_a_place_in_hand_passes_it_on() -> None:
    bulkhead = Bulkhead(1, 2)
    await bulkhead.acquire()
    gone, waiter = (asyncio.create_task(bulkhead.acquire()) for _ in range(2))
    await turns()
    bulkhead.release()
    gone.cancel()  # the place is its own, but it has not run since
    await turns()
    assert gone.cancelled()
    assert waiter.done()
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


@pytest.mark.anyio
async def test_a_place_is_not_handed_to_who_was_cancelled_just_before() -> None:
    bulkhead = Bulkhead(1, 2)
    await bulkhead.acquire()
    gone, waiter = (asyncio.create_task(bulkhead.acquire()) for _ in range(2))
    await turns()
    gone.cancel()
    bulkhead.release()
    await turns()
    assert gone.cancelled()
    assert waiter.done()
    assert (bulkhead.in_use, bulkhead.waiting) == (1, 0)


@pytest.mark.anyio
async def test_a_request_that_is_dropped_while_it_waits_leaves_the_queue() -> None:
    bulkhead = Bulkhead(1, 1)
    await bulkhead.acquire()
    dropped = bulkhead.acquire()
    dropped.send(None)
    dropped.close()
    assert bulkhead.waiting == 0


@dataclass
class Crowd:
    """Tasks that ask for places, and what came of it."""

    bulkhead: Bulkhead
    asked: list[asyncio.Task[None]] = field(default_factory=list)
    holding: list[int] = field(default_factory=list)
    served: list[int] = field(default_factory=list)  # in the order in which they were
    refused: list[int] = field(default_factory=list)

    async def _ask(self, number: int) -> None:
        try:
            await self.bulkhead.acquire()
        except Full:
            self.refused.append(number)
            return
        self.served.append(number)
        self.holding.append(number)

    def act(self, action: str, which: int) -> None:
        if action == "ask":
            self.asked.append(asyncio.create_task(self._ask(len(self.asked))))
        elif action == "cancel" and self.asked:
            self.asked[which % len(self.asked)].cancel()
        elif action == "release" and self.holding:
            self.holding.pop(which % len(self.holding))
            self.bulkhead.release()

    def pending(self) -> list[int]:
        return [number for number, task in enumerate(self.asked) if not task.done()]


ACTIONS = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "cancel", "release", "release", "turn", "turns"]), st.integers(0, 30)
)


@given(st.integers(1, 3), st.integers(0, 4), st.lists(ACTIONS, max_size=60))
def test_in_any_order_of_events_places_are_kept_and_given_first_come_first_served(
    limit: int, queue: int, actions: list[tuple[str, int]]
) -> None:
    asyncio.run(play(limit, queue, actions))


async def play(limit: int, queue: int, actions: list[tuple[str, int]]) -> None:
    bulkhead = Bulkhead(limit, queue)
    crowd = Crowd(bulkhead)
    for action, which in actions:
        crowd.act(action, which)
        if action in ("ask", "turn"):  # who asks has come once its task has run
            await turns(1)
        elif action == "turns":
            await turns()
            assert bulkhead.in_use == len(crowd.holding)
            assert bulkhead.waiting == len(crowd.pending())
            assert bulkhead.waiting == 0 or bulkhead.in_use == limit
        assert len(crowd.holding) <= bulkhead.in_use <= limit
        assert bulkhead.waiting <= queue
    while crowd.pending() or crowd.holding:
        await turns()
        crowd.act("release", 0)
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)
    assert crowd.served == sorted(crowd.served)
    cancelled = [number for number, task in enumerate(crowd.asked) if task.cancelled()]
    assert sorted(crowd.served + crowd.refused + cancelled) == list(range(len(crowd.asked)))
