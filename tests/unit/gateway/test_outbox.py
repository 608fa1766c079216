"""What is sent again after Redis has forgotten it, when it is not easily found."""

import asyncio
import random
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager

import pytest
from ledgers import FlakyAccounts, eventually, one_each, rows_of, settlement
from scripted_upstreams import VirtualClock

from genkan.gateway import outbox
from genkan.gateway.ledger_observer import Unobserved
from genkan.gateway.outbox import Outbox
from genkan.store.accounts import Settlement

pytestmark = pytest.mark.anyio


class Journal:
    """Finds what it is told to, and at first only says what is wrong."""

    def __init__(self, *ids: str, troubles: Collection[Exception] = (), late: Collection[str] = ()) -> None:
        self.ids = set(ids)
        self.late = set(late)  # found from the second look on
        self.troubles = list(troubles)
        self.asked: list[set[str]] = []

    async def recall(self, request_ids: Collection[str]) -> list[Settlement]:
        self.asked.append(set(request_ids))
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        there = self.ids - (self.late if len(self.asked) == 1 else set())
        return [settlement(each) for each in sorted(there & set(request_ids))]


@asynccontextmanager
async def sending(journal: Journal, accounts: FlakyAccounts, clock: VirtualClock) -> AsyncGenerator[Outbox, None]:
    made = Outbox(
        accounts,
        clock=clock,
        observer=Unobserved(),
        recall=journal.recall,
        on_done=lambda ids: None,
        on_refused=lambda settlement, why: None,
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def accounts(clock: VirtualClock) -> FlakyAccounts:
    return FlakyAccounts(clock)


async def put(box: Outbox, *ids: str, is_written: bool = True) -> None:
    for each in ids:
        assert box.put(settlement(each), is_written=is_written)
    await box.drained()


async def test_it_is_asked_for_by_its_id_and_what_was_never_written_is_known(
    accounts: FlakyAccounts, clock: VirtualClock
) -> None:
    journal = Journal("a", "b")
    async with sending(journal, accounts, clock) as box:
        await put(box, "a", "b")
        await put(box, "kept", is_written=False)
        accounts.asked.clear()
        box.lost_ground()
        await box.drained()
        assert journal.asked == [{"a", "b"}]
        assert accounts.asked == [["a", "b", "kept"]]
        box.lost_ground()  # and again
        await box.drained()
        assert accounts.asked == [["a", "b", "kept"]] * 2


@pytest.mark.parametrize("trouble", [OSError("no"), RuntimeError("can't start new thread")], ids=["OSError", "a bug"])
async def test_what_was_not_found_at_first_is_looked_for_again_and_keeps_nothing_waiting(
    accounts: FlakyAccounts, clock: VirtualClock, trouble: Exception
) -> None:
    journal = Journal("a", troubles=[trouble])
    async with sending(journal, accounts, clock) as box:
        await put(box, "a")
        await put(box, "kept", is_written=False)
        accounts.asked.clear()
        box.lost_ground()
        await eventually(lambda: accounts.asked == [["kept"]])
        assert box.put(settlement("new"))
        await eventually(lambda: accounts.asked == [["kept"], ["new"]])
        clock.now_s += 1.0
        await box.drained()
        assert accounts.asked == [["kept"], ["new"], ["a"]]


async def test_what_is_found_goes_on_while_the_rest_is_looked_for(accounts: FlakyAccounts, clock: VirtualClock) -> None:
    journal = Journal("a", "b", late=["b"])
    async with sending(journal, accounts, clock) as box:
        await put(box, "a", "b")
        accounts.asked.clear()
        box.lost_ground()
        await eventually(lambda: accounts.asked == [["a"]])
        clock.now_s += 1.0
        await box.drained()
        assert accounts.asked == [["a"], ["b"]]


async def test_what_is_not_urgent_waits_for_others_and_goes_with_what_is(
    accounts: FlakyAccounts, clock: VirtualClock
) -> None:
    async with sending(Journal(), accounts, clock) as box:
        for each in "abc":
            assert box.put(settlement(each), is_urgent=False)
            await asyncio.sleep(0)
        assert accounts.asked == []
        await eventually(lambda: accounts.asked == [["a", "b", "c"]])
        assert box.put(settlement("d"), is_urgent=False)
        assert box.put(settlement("e"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert accounts.asked == [["a", "b", "c"], ["d", "e"]]
        assert box.put(settlement("f"), is_urgent=False)
        await box.drained()  # which waits for nothing else
        assert accounts.asked[-1] == ["f"]


async def test_all_that_was_put_is_sent_whatever_was_urgent_and_came_while_others_were_sent(
    accounts: FlakyAccounts, clock: VirtualClock
) -> None:
    rng = random.Random(7)
    async with sending(Journal(), accounts, clock) as box:
        for number in range(500):
            accounts.faults = rng.choices(["ok", "lost", "timeout", "half"], [9, 1, 1, 1], k=1)
            assert box.put(settlement(f"r{number}"), is_urgent=rng.random() < 0.3)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        accounts.faults = []
        await eventually(lambda: len(box) == 0)
        await box.drained()
    assert len(one_each(await rows_of(accounts))) == 500


async def test_what_is_nowhere_is_not_looked_for_for_ever(
    accounts: FlakyAccounts, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    async with sending(journal, accounts, clock) as box:
        await put(box, "a")
        box.lost_ground()

        def has_given_up() -> bool:
            clock.now_s += 1.0
            return "1 settlements that Redis may have forgotten are not in the journal" in caplog.text

        await eventually(has_given_up)
        await box.drained()
        await put(box, "b")
    assert len(journal.asked) == outbox._LOOKS
