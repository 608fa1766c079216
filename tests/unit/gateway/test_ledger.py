"""Whatever fails or dies, every request gets to the ledger once."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_workers import Worker, working
from ledgers import ACTUAL, PLAN, RESERVED, FlakyAccounts, admission, eventually, one_each, rows_of, settlement
from scripted_upstreams import VirtualClock

from genkan.clock import SystemClock
from genkan.errors import StoreRefused
from genkan.gateway import ledger_replay, outbox
from genkan.gateway.journal import Journal
from genkan.gateway.journal_records import Records, first_line
from genkan.gateway.segment import segments_in

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is asked again soon, and what was replayed is sure at once."""
    monkeypatch.setattr(ledger_replay, "SURE_AFTER_S", 0.0)
    monkeypatch.setattr(outbox, "_SHORTEST_PAUSE_S", 0.001)
    monkeypatch.setattr(outbox, "_LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def accounts() -> FlakyAccounts:
    return FlakyAccounts(SystemClock())


async def test_a_settlement_is_sent_in_the_next_turn_of_the_loop_and_many_go_together(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    async with working(Worker(accounts, tmp_path)) as ledger:
        await asyncio.sleep(0)
        ledger.settle(settlement("a"))
        assert accounts.asked == []
        await asyncio.sleep(0)
        assert accounts.asked == [["a"]]
        for n in range(250):
            ledger.settle(settlement(f"r{n}"))
        await eventually(lambda: sum(map(len, accounts.asked)) == 251)
        assert [len(ids) for ids in accounts.asked] == [1, 100, 100, 50]


async def test_a_clean_end_sends_all_and_leaves_no_file(accounts: FlakyAccounts, tmp_path: Path) -> None:
    worker = Worker(accounts, tmp_path)
    async with working(worker) as ledger:
        for n in range(300):
            ledger.opened(admission(f"r{n}"))
            ledger.attempt_begun(f"r{n}", 1, "m@u")
            ledger.settle(settlement(f"r{n}"))
    assert len(one_each(await rows_of(accounts))) == 300
    assert worker.notes.counts == {"settled": 300, "lost": 0}
    assert os.listdir(tmp_path) == []


async def test_it_is_in_the_journal_before_the_upstream_is_asked_and_as_long_as_redis_does_not_have_it(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    worker, accounts.is_down = Worker(accounts, tmp_path), True
    await worker.ledger.start()
    worker.ledger.opened(admission("a"))
    assert segments_in(tmp_path) == []
    worker.ledger.attempt_begun("a", 1, "m@u")
    (path,) = segments_in(tmp_path)
    begun = path.read_bytes()
    assert b'"is":"begun"' in begun
    worker.ledger.attempt_begun("a", 2, "m@v")
    worker.ledger.settle(settlement("a"))
    added = path.read_bytes()[len(begun) :].splitlines()
    assert [line.partition(b'"is":')[2][:8] for line in added] == [b'"attempt', b'"settled']
    await worker.ledger.aclose(drain_s=0.01)
    assert path.exists()


@pytest.mark.parametrize("has_some", [True, False])
async def test_what_is_left_to_the_journal_is_told_if_there_is_any(
    accounts: FlakyAccounts, tmp_path: Path, caplog: pytest.LogCaptureFixture, has_some: bool
) -> None:
    worker, accounts.is_down = Worker(accounts, tmp_path), True
    await worker.ledger.start()
    if has_some:
        worker.ledger.settle(settlement("a"))
    await worker.ledger.aclose(drain_s=0.01)
    assert ("1 settlements are left to the journal" in caplog.text) is has_some
    assert "0 settlements" not in caplog.text


async def test_what_redis_may_have_done_is_asked_again_and_stays_single(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    accounts.faults = ["timeout", "lost", "half", "oom", "timeout", "ok", "half"]
    worker = Worker(accounts, tmp_path)
    async with working(worker) as ledger:
        for n in range(200):
            ledger.settle(settlement(f"r{n}"))
    assert len(one_each(await rows_of(accounts))) == 200
    assert worker.notes.waiting == 0
    assert worker.notes.counts["refused"] == 0


async def test_batches_shrink_while_redis_takes_too_long_and_grow_again(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    accounts.faults = ["timeout"] * 8
    async with working(Worker(accounts, tmp_path)) as ledger:
        for n in range(300):
            ledger.settle(settlement(f"r{n}"))
    sizes = [len(ids) for ids in accounts.asked]
    assert sizes[:10] == [100, 50, 25, 12, 6, 3, 1, 1, 1, 2]
    assert max(sizes[10:]) >= 64


@pytest.mark.parametrize("error", [StoreRefused("ERR value is not an integer"), ValueError("a bug")])
async def test_a_settlement_that_is_refused_stops_no_other_and_is_set_aside(
    accounts: FlakyAccounts, tmp_path: Path, error: Exception
) -> None:
    accounts.poison["r7"] = error
    worker = Worker(accounts, tmp_path)
    async with working(worker) as ledger:
        for n in range(20):
            ledger.settle(settlement(f"r{n}"))
        await eventually(lambda: worker.notes.counts["refused"] == 1)
        ledger.settle(settlement("later"))
    assert len(one_each(await rows_of(accounts))) == 20
    assert sum(ids == ["r7"] for ids in accounts.asked) == outbox.REFUSALS
    assert os.listdir(tmp_path) == ["refused.jsonl"]
    assert '"id":"r7"' in (tmp_path / "refused.jsonl").read_text()


async def test_a_settlement_refused_for_a_while_is_taken_after_it(accounts: FlakyAccounts, tmp_path: Path) -> None:
    accounts.poison["a"] = StoreRefused("ERR for now")
    async with working(Worker(accounts, tmp_path)) as ledger:
        ledger.settle(settlement("a"))
        await eventually(lambda: len(accounts.asked) == 3)
        del accounts.poison["a"]
    assert one_each(await rows_of(accounts)) == {"a"}


async def test_a_redis_that_is_full_makes_nothing_be_set_aside(accounts: FlakyAccounts, tmp_path: Path) -> None:
    accounts.faults = ["oom"] * (3 * outbox.REFUSALS)
    worker = Worker(accounts, tmp_path)
    async with working(worker) as ledger:
        ledger.settle(settlement("a"))
    assert one_each(await rows_of(accounts)) == {"a"}
    assert worker.notes.counts["refused"] == 0


async def test_another_worker_settles_what_a_dead_one_had_settled_and_closes_the_rest_as_lost(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    dying, accounts.is_down = Worker(accounts, tmp_path), True
    await dying.ledger.start()
    for request_id in ("settled", "begun", "opened"):
        await accounts.admit(admission(request_id))
        dying.ledger.opened(admission(request_id))
    for request_id in ("settled", "begun"):
        dying.ledger.attempt_begun(request_id, 1, "m@u")
    dying.ledger.attempt_begun("begun", 2, "m@v")
    dying.ledger.settle(settlement("settled"))
    await dying.die()
    accounts.is_down = False
    other = Worker(accounts, tmp_path)
    async with working(other):
        await eventually(lambda: segments_in(tmp_path) == [])
    rows = await rows_of(accounts)
    assert one_each(rows) == {"settled", "begun"}
    assert rows["settled"][0]["state"] == "ok"
    assert rows["begun"][0]["state"] == "lost"
    assert [each["deployment"] for each in rows["begun"][0]["attempts"]] == ["m@u", "m@v"]
    assert other.notes.counts == {"settled": 2, "lost": 1}
    budget = (await accounts.read(PLAN))[2]
    assert PLAN[2].limit - budget.remaining == ACTUAL.budget_nano_usd + 2 * RESERVED.budget_nano_usd


async def test_what_a_restarted_redis_may_have_forgotten_is_replayed_again(
    accounts: FlakyAccounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_replay, "SURE_AFTER_S", 3600.0)
    dying, accounts.is_down = Worker(accounts, tmp_path), True
    await dying.ledger.start()
    dying.ledger.settle(settlement("settled"))
    await dying.die()
    accounts.is_down = False
    other = Worker(accounts, tmp_path)
    async with working(other) as ledger:
        await eventually(lambda: other.notes.counts["settled"] == 1)
        assert len(segments_in(tmp_path)) == 1
        ledger.lost_ground()
        await eventually(lambda: other.notes.counts["duplicate"] == 1)
    assert segments_in(tmp_path) == []
    assert one_each(await rows_of(accounts)) == {"settled"}


async def test_what_waits_beyond_what_memory_may_hold_is_replayed_from_the_journal(
    accounts: FlakyAccounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SURE_AFTER_S", 0.0)
    worker, accounts.is_down = Worker(accounts, tmp_path), True
    worker.ledger._outbox._at_most = 10
    async with working(worker) as ledger:
        for n in range(50):
            ledger.opened(admission(f"r{n}"))
            ledger.attempt_begun(f"r{n}", 1, "m@u")
            ledger.settle(settlement(f"r{n}"))
        assert worker.notes.counts["left"] == 40
        accounts.is_down = False
        await eventually(lambda: worker.notes.counts["settled"] >= 50)
    assert len(one_each(await rows_of(accounts))) == 50


async def test_what_waits_is_bounded_in_bytes_too(accounts: FlakyAccounts, tmp_path: Path) -> None:
    worker, accounts.is_down = Worker(accounts, tmp_path), True
    worker.ledger._outbox._at_most_bytes = 5000
    await worker.ledger.start()
    for n in range(50):
        worker.ledger.settle(settlement(f"r{n}"))
    assert 3 < len(worker.ledger._outbox) < 10
    await worker.ledger.aclose(drain_s=0.01)


async def test_what_a_restarted_redis_may_have_forgotten_is_sent_again(accounts: FlakyAccounts, tmp_path: Path) -> None:
    clock = VirtualClock()
    worker = Worker(accounts, tmp_path, clock=clock)
    async with working(worker) as ledger:
        ledger.settle(settlement("old"))
        await eventually(lambda: worker.notes.counts["settled"] == 1)
        clock.now_s += outbox.SURE_AFTER_S
        ledger.settle(settlement("sure, as this is answered"))
        await eventually(lambda: worker.notes.counts["settled"] == 2)
        ledger.settle(settlement("new"))
        await eventually(lambda: worker.notes.counts["settled"] == 3)
        clock.now_s += 100.0  # it was away that long; nothing was asked meanwhile
        accounts.asked.clear()
        ledger.lost_ground()
        await eventually(lambda: worker.notes.counts["duplicate"] == 2)
        assert accounts.asked == [["sure, as this is answered", "new"]]
        ledger.lost_ground()
        await eventually(lambda: worker.notes.counts["duplicate"] == 4)
    assert len(one_each(await rows_of(accounts))) == 3
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fault", ["ok", "timeout"])
async def test_what_redis_may_have_settled_minutes_ago_is_looked_up_before_it_is_sent_again(
    tmp_path: Path, fault: str
) -> None:
    clock = VirtualClock()
    accounts = FlakyAccounts(clock)
    worker = Worker(accounts, tmp_path, clock=clock)
    async with working(worker) as ledger:
        accounts.faults = [fault]
        ledger.settle(settlement("a"))
        await eventually(lambda: not accounts.faults)
        accounts.is_down = True
        ledger.settle(settlement("b"))
        await eventually(lambda: len(accounts.asked) >= 4)
        clock.now_s += 150.0
        ledger.lost_ground()
        accounts.is_down = False
        await ledger._outbox.drained()
    assert one_each(await rows_of(accounts)) == {"a", "b"}
    assert (await accounts.read(PLAN))[2].remaining == PLAN[2].limit - 2 * ACTUAL.budget_nano_usd
    assert os.listdir(tmp_path) == []


async def test_a_worker_that_dies_just_after_redis_took_something_still_has_it_in_its_journal(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    dying = Worker(accounts, tmp_path)
    await dying.ledger.start()
    dying.ledger.settle(settlement("a"))
    await eventually(lambda: dying.notes.counts["settled"] == 1)
    await dying.die()
    forgetful = FlakyAccounts(SystemClock())  # Redis, restarted without its last second
    async with working(Worker(forgetful, tmp_path)):
        await eventually(lambda: segments_in(tmp_path) == [])
    assert one_each(await rows_of(forgetful)) == {"a"}


async def test_old_remains_are_looked_up_before_they_are_settled(tmp_path: Path) -> None:
    clock = VirtualClock()
    accounts = FlakyAccounts(clock)
    dying = Worker(accounts, tmp_path, clock=clock)
    await dying.ledger.start()
    for request_id in ("known", "unknown"):
        await accounts.admit(admission(request_id))
        dying.ledger.opened(admission(request_id))
        dying.ledger.attempt_begun(request_id, 1, "m@u")
        dying.ledger.settle(settlement(request_id))
        if request_id == "known":
            await eventually(lambda: dying.notes.counts["settled"] == 1)
            accounts.is_down = True
    await dying.die()
    accounts.is_down = False
    clock.now_s += 3600.0
    assert await accounts.close_lost() == 1
    other = Worker(accounts, tmp_path, clock=clock)
    async with working(other):
        await eventually(lambda: segments_in(tmp_path) == [])
    rows = await rows_of(accounts)
    assert [row["state"] for row in rows["known"]] == ["ok"]
    assert [(row["state"], row.get("late")) for row in rows["unknown"]] == [("lost", None), ("ok", True)]


async def test_long_requests_are_renewed_until_they_are_settled_short_ones_never(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    async with working(Worker(accounts, tmp_path, lease_s=0.06)) as ledger:
        ledger.opened(admission("local"), was_admitted=False)
        ledger.opened(admission("long"))
        ledger.opened(admission("short"))
        ledger.settle(settlement("short"))
        await eventually(lambda: len(accounts.renewed) >= 3)
        ledger.settle(settlement("long"))
        ledger.settle(settlement("local", was_admitted=False))
        assert set(accounts.renewed) == {"long"}
        before = len(accounts.renewed)
        ledger.opened(admission("other"))
        await eventually(lambda: "other" in accounts.renewed)
        assert accounts.renewed.count("long") <= before


async def test_reservations_of_others_that_ran_out_are_closed(tmp_path: Path) -> None:
    clock = VirtualClock()
    accounts = FlakyAccounts(clock)
    for n in range(250):
        await accounts.admit(admission(f"r{n}"))
    worker = Worker(accounts, tmp_path, clock=clock)
    clock.now_s += 31.0
    async with working(worker):
        await eventually(lambda: worker.notes.counts["lost"] == 250)
    assert len(one_each(await rows_of(accounts))) == 250


async def test_a_full_disk_stops_nothing(
    accounts: FlakyAccounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(accounts, tmp_path)

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    async with working(worker) as ledger:
        ledger.opened(admission("a"))
        ledger.attempt_begun("a", 1, "m@u")
        ledger.settle(settlement("a"))
        await eventually(lambda: worker.notes.counts["settled"] == 1)
    assert worker.notes.counts["journal_failed"] == 2
    assert one_each(await rows_of(accounts)) == {"a"}


async def test_a_ledger_ends_in_time_whatever_it_is_doing_when_redis_goes_away(
    accounts: FlakyAccounts, tmp_path: Path
) -> None:
    left = Journal(tmp_path)
    left.settled(settlement("left"), 1.0)
    left.close()
    for turns in range(30):
        worker, accounts.is_down = Worker(accounts, tmp_path), True
        await worker.ledger.start()
        worker.ledger.settle(settlement(f"r{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5.0):
            await worker.ledger.aclose(drain_s=0.0)
    assert len(segments_in(tmp_path)) == 31


class Failing(FlakyAccounts):
    """With a bug where leases are closed."""

    bugs = 3

    async def close_lost(self, *, at_most: int = 100) -> int:
        self.bugs -= 1
        if self.bugs >= 0:
            raise KeyError("a bug")
        return 0


async def test_a_bug_in_one_duty_ends_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "1-0123456789ab.journal"
    path.write_bytes(first_line(0) + b"00000000 {}\n" + Records().done(["x"]))
    accounts = Failing(SystemClock())
    async with working(Worker(accounts, tmp_path)) as ledger:
        await eventually(lambda: segments_in(tmp_path) == [])
        ledger.settle(settlement("a"))
        await eventually(lambda: accounts.bugs < 0)
    assert one_each(await rows_of(accounts)) == {"a"}
    assert "1 damaged records" in caplog.text
    assert "KeyError" in caplog.text


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 5)),
        st.tuples(st.just("settle"), st.integers(1, 130)),
        st.tuples(st.just("faults"), st.lists(st.sampled_from(["lost", "timeout", "half", "oom", "ok"]), max_size=5)),
        st.tuples(st.sampled_from(["die", "lost_ground", "turn", "down", "up"]), st.just(0)),
        st.tuples(st.just("later"), st.sampled_from([1, 4, 29, 99, 150])),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_whatever_comes_in_between_each_request_has_one_row(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | list[str]]]
) -> None:
    folder, clock = tmp_path_factory.mktemp("journal"), VirtualClock()
    accounts = FlakyAccounts(clock)
    worker, running = Worker(accounts, folder, clock=clock), list[str]()
    await worker.ledger.start()
    settled, lost, n = set[str](), set[str](), 0
    for step, value in steps:
        match step, value:
            case "open", int(many):
                for _ in range(many):
                    n += 1
                    running.append(f"r{n}")
                    worker.ledger.opened(admission(f"r{n}"))
                    worker.ledger.attempt_begun(f"r{n}", 1, "m@u")
            case "settle", int(many):
                for request_id in [*running, *(f"s{n}.{each}" for each in range(many))][:many]:
                    worker.ledger.settle(settlement(request_id))
                    settled.add(request_id)
                running, n = running[many:], n + 1
            case "faults", list(faults):
                accounts.faults = faults
            case "die", _:
                await worker.die()
                lost.update(running)
                running.clear()
                worker = Worker(accounts, folder, clock=clock)
                await worker.ledger.start()
            case "lost_ground", _:
                worker.ledger.lost_ground()
            case "later", int(seconds):
                clock.now_s += seconds
            case "turn", _:
                await asyncio.sleep(0.001)
            case _:
                accounts.is_down = step == "down"
    accounts.is_down, accounts.faults = False, []
    await worker.die()
    lost.update(running)
    last = Worker(accounts, folder, clock=clock)
    async with working(last):
        await eventually(lambda: segments_in(folder) == [])
    rows = await rows_of(accounts)
    assert one_each(rows) == settled | lost
    assert {request_id for request_id, (row,) in rows.items() if row["state"] == "lost"} == lost
