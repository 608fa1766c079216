"""Experiments of several workers on one store, which may be lost."""

import asyncio
from collections.abc import Awaitable

import orjson
import pytest
from hand_clock import HandClock

from genkan.config import CanaryConfig, GuardsConfig
from genkan.errors import StoreLost, StoreTimeout
from genkan.gateway.arm import Arm, Sample
from genkan.gateway.canary.experiment import Experiment, Side, State
from genkan.gateway.canary.record import Record
from genkan.store.canaries import Batch, CanaryStore, ExperimentKey, Kept, MemoryCanaries

pytestmark = pytest.mark.anyio
CONFIG = CanaryConfig(model="tried", min_requests=100, guards=GuardsConfig(error_rate=0.05, ttft_ratio=None))
CONTROL, CANARY = Side("usual", "usual@1"), Side("tried", "tried@1")


class Shaky(CanaryStore):
    """A store that fails as often as it is told: before it has done what it was asked, or after."""

    def __init__(self) -> None:
        self.inner = MemoryCanaries()
        self.lost = 0
        self.late = 0
        self.late_decisions = 0

    async def exchange(self, key: ExperimentKey, run: int, batch: Batch) -> Kept:
        return await self._done(self.inner.exchange(key, run, batch))

    async def decide(self, key: ExperimentKey, run: int, record: bytes, *, replaces: bool) -> Kept:
        if self.late_decisions:
            self.late_decisions, self.late = 0, self.late_decisions
        return await self._done(self.inner.decide(key, run, record, replaces=replaces))

    async def restart(self, key: ExperimentKey, run: int, record: bytes) -> Kept:
        return await self._done(self.inner.restart(key, run, record))

    async def audit(self, route: str) -> list[bytes]:
        return await self.inner.audit(route)

    async def _done(self, asked: Awaitable[Kept]) -> Kept:
        if self.lost:
            self.lost -= 1
            asyncio.ensure_future(asked).cancel()
            raise StoreLost("gone")
        kept = await asked
        if self.late:
            self.late -= 1
            raise StoreTimeout("it took too long")
        return kept


class Notes:
    """A CanaryObserver."""

    def __init__(self) -> None:
        self.changes: list[tuple[State, State, bool]] = []

    def canary_changed(self, route: str, before: State, after: State, record: Record | None, *, is_ours: bool) -> None:
        assert route == "chat"
        self.changes.append((before, after, is_ours))


@pytest.fixture
def store() -> Shaky:
    return Shaky()


def worker(
    store: CanaryStore,
    notes: Notes | None = None,
    *,
    config: CanaryConfig = CONFIG,
    canary: Side = CANARY,
    every: float = 60,
    clock: HandClock | None = None,
) -> Experiment:
    return Experiment(
        "chat", config, store, control=CONTROL, canary=canary, clock=clock or HandClock(), observer=notes,
        sync_every_s=every,
    )  # fmt: skip


def ended(arm: Arm, n: int, *, seconds: float = 1.0, ok: bool = True) -> None:
    for place in range(n):
        arm.ended(Sample(ok, seconds * (0.5, 1.0, 2.0)[place % 3], True, 0.1 * seconds, 2_000_000, 100))


def measured(experiment: Experiment, *, seconds: float = 1.0) -> None:
    """Enough to say whether it is worse."""
    ended(experiment.control, 9000)
    ended(experiment.canary, 3000, seconds=seconds)


async def samples(experiment: Experiment) -> tuple[object, object]:
    report = await experiment.report()
    return report["control_samples"], report["canary_samples"]


async def test_a_worse_canary_is_rolled_back_everywhere(store: Shaky) -> None:
    notes, others = Notes(), Notes()
    one, other = worker(store, notes), worker(store, others)
    assert (one.state, one.share) == ("running", 0.1)
    measured(one, seconds=2.0)
    await one.sync()
    await other.sync()
    assert [(each.state, each.share) for each in (one, other)] == [("rolled_back", 0.0)] * 2
    assert notes.changes == [("running", "rolled_back", True)]
    assert others.changes == [("running", "rolled_back", False)]
    (audited,) = await store.audit("chat")
    record = Record.read(audited)
    assert record is not None
    assert (record.by, record.action, record.guard) == ("auto", "rollback", "latency_ratio")
    assert (record.control, record.canary, record.error_probability) == ("usual", "tried", 0.05)
    assert record.figures["canary_avg_ms"] == pytest.approx(2333.3, abs=0.1)


async def test_one_that_is_no_worse_is_promoted(store: Shaky) -> None:
    one = worker(store)
    measured(one)
    await one.sync()
    assert (one.state, one.share) == ("promoted", 1.0)


async def test_what_each_worker_measured_counts(store: Shaky) -> None:
    one, other = worker(store), worker(store)
    ended(one.control, 30)
    ended(other.canary, 4)
    await one.sync()
    assert await samples(other) == (30, 4)
    assert await samples(one) == (30, 4)
    assert await samples(one) == (30, 4)


async def test_where_it_is_only_reported_the_share_stays(store: Shaky) -> None:
    reporting = CONFIG.model_copy(update={"on_decision": "report"})
    one = worker(store, config=reporting)
    measured(one, seconds=2.0)
    await one.sync()
    assert (one.state, one.share) == ("worse", 0.1)
    await one.override("rollback", "an admin")
    assert (one.state, one.share) == ("rolled_back", 0.0)
    acting = worker(store)
    await acting.sync()
    assert acting.state == "rolled_back"


async def test_a_lost_store_costs_nothing_and_doubles_nothing(store: Shaky) -> None:
    one = worker(store)
    ended(one.control, 10)
    store.lost = 2
    for _ in range(2):
        with pytest.raises(StoreLost):
            await one.sync()
        ended(one.control, 10)
    store.late = 2  # now it does what it is asked, and nobody hears of it
    for _ in range(2):
        with pytest.raises(StoreTimeout):
            await one.sync()
        ended(one.canary, 1)
    await one.sync()
    assert await samples(one) == (30, 2)


async def test_a_decision_nobody_heard_of_is_heard_the_next_time(store: Shaky) -> None:
    notes = Notes()
    one = worker(store, notes)
    measured(one, seconds=2.0)
    store.late_decisions = 1
    with pytest.raises(StoreTimeout):
        await one.sync()
    assert notes.changes == []
    await one.sync()
    assert notes.changes == [("running", "rolled_back", True)]
    assert len(await store.audit("chat")) == 1


async def test_a_store_that_forgets_is_told_of_the_decision(store: Shaky) -> None:
    one = worker(store)
    measured(one, seconds=2.0)
    await one.sync()
    store.inner = MemoryCanaries()
    await one.sync()
    assert one.share == 0.0
    fresh = worker(store)
    await fresh.sync()
    assert fresh.state == "rolled_back"


async def test_overrides_are_audited_and_hold_against_the_figures(store: Shaky) -> None:
    one, other = worker(store), worker(store)
    measured(one, seconds=2.0)
    await one.sync()
    await other.override("promote", "ada")
    await one.sync()
    assert [each.share for each in (one, other)] == [1.0, 1.0]
    report = await one.report()
    assert isinstance(report["audit"], list)
    assert [(entry["by"], entry["action"]) for entry in report["audit"]] == [("ada", "promote"), ("auto", "rollback")]
    assert report["verdict"] == "worse"


async def test_a_restart_begins_at_nothing_everywhere(store: Shaky) -> None:
    notes, clock = Notes(), HandClock()
    one, other = worker(store, notes, clock=clock), worker(store, clock=clock)
    measured(one, seconds=2.0)
    await one.sync()
    await other.sync()
    ended(other.canary, 5)
    await one.override("restart", "ada")
    ended(one.control, 4)  # which began before, when the canary had none
    clock.advance(2.0)
    ended(one.canary, 3)
    assert (one.state, one.share) == ("running", 0.1)
    await other.sync()
    assert (other.state, other.share) == ("running", 0.1)
    assert await samples(one) == (0, 3)  # the other's five were of the run before
    clock.advance(2.0)
    ended(other.canary, 2)
    assert await samples(other) == (0, 5)
    assert notes.changes[-1] == ("rolled_back", "running", True)


@pytest.mark.parametrize(
    "changed",
    [
        {"guards": GuardsConfig(latency_ratio=3.0)},
        {"error_probability": 0.01},
        {"mode": "shadow"},
    ],
)
async def test_another_question_begins_anew(store: Shaky, changed: dict[str, object]) -> None:
    one = worker(store)
    measured(one, seconds=2.0)
    await one.sync()
    assert await samples(worker(store, config=CONFIG.model_copy(update=changed))) == (0, 0)


async def test_another_revision_begins_anew_and_another_percentage_does_not(store: Shaky) -> None:
    one = worker(store)
    measured(one, seconds=2.0)
    await one.sync()
    assert await samples(worker(store, canary=Side("tried", "tried@2"))) == (0, 0)
    more = worker(store, config=CONFIG.model_copy(update={"percent": 50.0}))
    await more.sync()
    assert more.state == "rolled_back"


async def test_what_somebody_else_wrote_is_no_decision(store: Shaky) -> None:
    one = worker(store)
    await store.decide(one._key, 1, b"\xff nonsense", replaces=True)
    measured(one, seconds=2.0)
    await one.sync()
    assert one.state == "rolled_back"
    assert len((await one.report())["audit"]) == 1  # type: ignore[arg-type] # it is a list


async def test_a_report_says_what_was_known_when_the_store_is_lost(store: Shaky) -> None:
    one = worker(store)
    ended(one.control, 30)
    ended(one.canary, 3, seconds=0.5)
    report = await one.report()
    assert (report["control_avg_ms"], report["canary_avg_ms"]) == (
        pytest.approx(1166.67, abs=0.01),
        pytest.approx(583.33, abs=0.01),
    )
    assert report["improvement"] == pytest.approx(50.0)
    assert (report["canary_ttft_ms"], report["canary_cost_usd"]) == (pytest.approx(50.0), pytest.approx(0.002))
    assert report["is_current"] is True
    store.lost = 1
    later = await one.report()
    assert (later["control_samples"], later["is_current"]) == (30, False)
    assert orjson.loads(orjson.dumps(report))["guards"][0]["guard"] == "error_rate"


async def test_it_runs_in_the_background_until_it_is_closed(store: Shaky) -> None:
    store.lost = 1
    one = worker(store, every=0.001)
    await one.start()
    measured(one, seconds=2.0)
    async with asyncio.timeout(10):
        while one.state == "running":  # noqa: ASYNC110 (nobody is told when a round is over)
            await asyncio.sleep(0.001)
    ended(one.canary, 7)
    await one.aclose()
    await one.aclose()
    assert await samples(worker(store)) == (9000, 3007)
