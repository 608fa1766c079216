"""``DynamicBatcher`` under callers, errors, cancellations and a stop of any kind at any time."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from genkan import DynamicBatcher
from genkan.batching.errors import BatcherFull, BatcherStopped

WAIT_S = 30.0

Mood = Literal["good", "bad", "poison"]  # of an item: it is answered, fails alone, makes its whole batch fail
Way = Literal["predict", "predict_batch", "task", "tasks", "cancelled task", "cancelled"]


@dataclass(frozen=True, slots=True)
class Item:
    name: tuple[int, int, int]  # caller, call, place
    mood: Mood


class Bad(Exception):
    pass


class Poison(Exception):
    pass


class Recorder:
    """The model. It notes what it is asked to compute."""

    def __init__(self, poison_spreads: bool) -> None:
        self.batches: list[list[Item]] = []
        self.poison_spreads = poison_spreads

    def predict(self, items: list[Item]) -> list[str | Exception]:
        self.batches.append(items)
        if any(item.mood == "poison" for item in items):
            raise Poison(items)
        return [Bad(item) if item.mood == "bad" else str(item.name) for item in items]

    def check(self, item: Item, outcome: object) -> None:
        """The outcome is the item's own, or that of a batch that it was in."""
        if isinstance(outcome, Poison):
            (items,) = outcome.args
            assert item in items
            assert item.mood == "poison" or self.poison_spreads
        elif item.mood == "bad":
            assert isinstance(outcome, Bad)
            assert outcome.args == (item,)
        else:
            assert (item.mood, outcome) == ("good", str(item.name))


class AsyncRecorder(Recorder):
    async def predict(self, items: list[Item]) -> list[str | Exception]:  # type: ignore[override]  # which is the point
        await asyncio.sleep(0)
        return super().predict(items)


@dataclass(slots=True)
class Tally:
    """What became of all items."""

    answered: int = 0
    refused: int = 0
    cancelled: int = 0


class Caller:
    """Makes its calls one after another, in a thread, and checks every outcome."""

    def __init__(self, batcher: DynamicBatcher[Item, str], recorder: Recorder) -> None:
        self.batcher, self.recorder = batcher, recorder
        self.tally = Tally()
        self.never_computed: list[Item] = []

    def run(self, number: int, calls: list[tuple[Way, list[Mood]]]) -> None:
        for index, (way, moods) in enumerate(calls):
            items = [Item((number, index, place), mood) for place, mood in enumerate(moods)]
            outcomes = asyncio.run(self.in_a_loop(way, items)) if "task" in way else self.in_the_thread(way, items)
            assert len(outcomes) == len(items)
            for item, outcome in zip(items, outcomes, strict=True):
                self.note(item, outcome)

    def in_the_thread(self, way: Way, items: list[Item]) -> list[object]:
        if way == "predict":
            return [self.outcome(item) for item in items]
        if way == "predict_batch":
            try:
                return [*self.batcher.predict_batch(items, return_exceptions=True)]
            except (BatcherFull, BatcherStopped) as error:
                return [error] * len(items)
        return [self.cancelled(item) for item in items]

    async def in_a_loop(self, way: Way, items: list[Item]) -> list[object]:
        if way == "tasks":
            try:
                return [*await self.batcher.predict_batch(items, return_exceptions=True)]
            except (BatcherFull, BatcherStopped) as error:
                return [error] * len(items)
        tasks = [asyncio.create_task(self.batcher.predict(item)) for item in items]
        await asyncio.sleep(0)
        if way == "cancelled task":
            tasks[0].cancel()
        return [*await asyncio.gather(*tasks, return_exceptions=True)]

    def outcome(self, item: Item) -> object:
        try:
            return self.batcher.predict(item)
        except (Bad, Poison, BatcherFull, BatcherStopped) as error:
            return error

    def cancelled(self, item: Item) -> object:
        try:
            answer: Future[str] = self.batcher.submit(item)
        except (BatcherFull, BatcherStopped) as error:
            return error
        if answer.cancel():
            self.never_computed.append(item)
            return asyncio.CancelledError()
        return answer.exception(WAIT_S) or answer.result()

    def note(self, item: Item, outcome: object) -> None:
        if isinstance(outcome, BatcherFull | BatcherStopped):
            self.never_computed.append(item)
            self.tally.refused += 1
        elif isinstance(outcome, asyncio.CancelledError):
            self.tally.cancelled += 1
        else:
            self.recorder.check(item, outcome)
            self.tally.answered += 1


MOODS = st.lists(st.sampled_from(["good"] * 8 + ["bad", "poison"]), min_size=1, max_size=12)
WAYS = st.sampled_from(["predict", "predict_batch", "task", "tasks", "cancelled task", "cancelled"])
CALLERS = st.lists(st.lists(st.tuples(WAYS, MOODS), max_size=4), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    plans=CALLERS,
    max_batch_size=st.integers(1, 8),
    max_wait_s=st.sampled_from([0.0, 0.001]),
    max_queue=st.sampled_from([4, 1000]),
    workers=st.integers(1, 3),
    adaptive=st.booleans(),
    isolate_errors=st.booleans(),
    asynchronous=st.booleans(),
    stop_after=st.none() | st.integers(0, 20),
)
def test_every_item_gets_its_own_outcome_once(
    plans: list[list[tuple[Way, list[Mood]]]],
    max_batch_size: int,
    max_wait_s: float,
    max_queue: int,
    workers: int,
    adaptive: bool,
    isolate_errors: bool,
    asynchronous: bool,
    stop_after: int | None,
) -> None:
    recorder = (AsyncRecorder if asynchronous else Recorder)(poison_spreads=not isolate_errors)
    enough = threading.Event()

    def predict(items: list[Item]) -> object:
        if stop_after is not None and len(recorder.batches) >= stop_after:
            enough.set()
        return recorder.predict(items)

    batcher: DynamicBatcher[Item, str] = DynamicBatcher(
        predict,  # type: ignore[arg-type]  # of one kind or the other
        max_batch_size, max_wait_s, max_queue, workers, adaptive=adaptive, isolate_errors=isolate_errors,
    )  # fmt: skip
    batcher.start()
    callers = [Caller(batcher, recorder) for _ in plans]
    with ThreadPoolExecutor(len(plans) + 1) as pool:
        running = [pool.submit(caller.run, number, plans[number]) for number, caller in enumerate(callers)]
        if stop_after is not None:
            stopping = pool.submit(lambda: (enough.wait(), batcher.stop()))
        for done in running:
            done.result(WAIT_S)
        enough.set()
        if stop_after is not None:
            stopping.result(WAIT_S)
    batcher.stop()

    sizes = [len(batch) for batch in recorder.batches]
    assert all(1 <= size <= max_batch_size for size in sizes)
    computed = [item for batch in recorder.batches for item in batch]
    assert isolate_errors or len(computed) == len(set(computed)), "nothing is computed twice unless that is asked for"
    assert not set(computed) & {item for caller in callers for item in caller.never_computed}

    stats = batcher.stats
    answered = sum(caller.tally.answered for caller in callers)
    cancelled = sum(caller.tally.cancelled for caller in callers)
    assert answered <= stats.answered + stats.failed <= answered + cancelled
    assert len(set(computed)) == stats.answered + stats.failed
    assert stats.queue_size == 0
    if stop_after is None and max_queue == 1000:
        assert sum(caller.tally.refused for caller in callers) == 0
