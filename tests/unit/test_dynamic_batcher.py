"""``DynamicBatcher``: callers from threads and event loops, errors, overload, and how everything ends."""

import asyncio
import doctest
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from genkan import DynamicBatcher, dynamic_batcher
from genkan.batching.errors import BatcherFull, BatcherStopped

pytestmark = pytest.mark.anyio
WAIT_S = 10.0  # how long anything here waits for something that happens at once
LONG_S = 600.0  # how long nothing here waits


def doubled(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


class Gate:
    """A model that doubles numbers once it is opened, and remembers its batches."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.entered.release()
        assert self._open.wait(WAIT_S)
        return doubled(numbers)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Generator[Gate, None, None]:
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def make() -> Generator[Callable[..., DynamicBatcher[Any, Any]], None, None]:
    """Makes batchers that are started, and that wait for nobody unless they are told to."""
    made: list[DynamicBatcher[Any, Any]] = []

    def one(model: Any = doubled, **options: Any) -> DynamicBatcher[Any, Any]:
        made.append(DynamicBatcher(model, **{"max_wait_s": 0.0} | options))
        made[-1].start()
        return made[-1]

    yield one
    for batcher in made:
        batcher.stop()


def busy(make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate, **options: Any) -> DynamicBatcher[Any, Any]:
    """A batcher whose only worker computes item 0 until the gate opens."""
    batcher = make(gate, **options)
    batcher.submit(0)
    assert gate.entered.acquire(timeout=WAIT_S)
    return batcher


def values(answers: Iterable[Future[Any]]) -> list[Any]:
    return [answer.result(WAIT_S) for answer in answers]


def test_its_docstring_is_true() -> None:
    assert doctest.testmod(dynamic_batcher).failed == 0


# Callers


def test_threads_get_their_own_answers(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_batch_size=5, workers=2)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(batcher.predict, range(500))) == doubled([*range(500)])
    assert batcher.stats.answered == 500


async def test_tasks_get_their_own_answers(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_batch_size=5)
    tasks = [asyncio.create_task(batcher.predict(number)) for number in range(200)]
    assert await asyncio.gather(*tasks) == doubled([*range(200)])
    assert await batcher.predict_batch(range(50)) == doubled([*range(50)])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_several_event_loops_and_threads_may_ask_at_once(
    make: Callable[..., DynamicBatcher[Any, Any]], kind: str
) -> None:
    async def later(numbers: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return doubled(numbers)

    batcher = make(doubled if kind == "sync" else later, max_batch_size=8, workers=2)

    async def ask(first: int) -> list[int]:
        return list(await asyncio.gather(*(batcher.predict(first + number) for number in range(50))))

    with ThreadPoolExecutor(6) as pool:
        loops = [pool.submit(asyncio.run, ask(first)) for first in (0, 50, 100)]
        threads = [pool.submit(batcher.predict_batch, range(first, first + 50)) for first in (150, 200, 250)]
        assert [*chain.from_iterable(values([*loops, *threads]))] == doubled([*range(300)])


async def test_a_future_is_had_anywhere(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make()
    there = batcher.submit(1)
    assert await asyncio.wrap_future(there) == 2
    assert await asyncio.to_thread(batcher.submit(2).result) == 4


def test_a_list_is_answered_in_order_whatever_its_length(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_batch_size=7, workers=3)
    assert batcher.predict_batch(number for number in range(100)) == doubled([*range(100)])
    assert batcher.predict_batch([]) == []


async def test_an_empty_list_is_answered_at_once(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    assert await make().predict_batch([]) == []


# Batches


def test_those_who_wait_together_are_computed_together(
    make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate
) -> None:
    batcher = busy(make, gate, max_batch_size=3)
    answers = [batcher.submit(number) for number in range(1, 8)]
    assert batcher.stats.queue_size == 7
    gate.open()
    assert values(answers) == doubled([*range(1, 8)])
    assert gate.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert (batcher.stats.batches, batcher.stats.mean_batch_size, batcher.stats.queue_size) == (4, 2.0, 0)


def test_a_batch_that_is_full_does_not_wait(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_batch_size=4, max_wait_s=LONG_S, adaptive=False)
    with ThreadPoolExecutor(4) as pool:
        assert values([pool.submit(batcher.predict, number) for number in range(4)]) == [0, 2, 4, 6]
    assert batcher.stats.batches == 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_lone_call_waits_no_longer_than_it_may(make: Callable[..., DynamicBatcher[Any, Any]], adaptive: bool) -> None:
    batcher = make(max_wait_s=0.05, adaptive=adaptive)
    assert batcher.predict(1) == 2
    assert 0.05 <= batcher.stats.latency_p50_s < WAIT_S


def test_a_lone_caller_is_waited_with_once(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_wait_s=0.2)
    for number in range(41):
        assert batcher.predict(number) == 2 * number
    assert batcher.stats.latency_p50_s < 0.1
    assert batcher.stats.latency_p95_s < 0.1


def test_who_comes_back_while_it_is_being_told_is_not_one_more(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(max_wait_s=0.2)
    batcher.predict(0)
    last: Future[int] = Future()

    def again(answer: Future[int]) -> None:
        if answer.result() == 20:
            last.set_result(20)
        else:
            batcher.submit(answer.result() // 2 + 1).add_done_callback(again)

    batcher.submit(1).add_done_callback(again)
    assert last.result(WAIT_S) == 20
    assert batcher.stats.latency_p50_s < 0.1


def test_workers_compute_side_by_side(make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate) -> None:
    batcher = make(gate, max_batch_size=2, workers=3)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(batcher.predict_batch, range(6))
        assert all(gate.entered.acquire(timeout=WAIT_S) for _ in range(3))
        gate.open()
        assert answers.result(WAIT_S) == doubled([*range(6)])
    assert [len(batch) for batch in gate.batches] == [2, 2, 2]


def test_one_worker_is_one_thread(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    threads: set[int] = set()

    def model(numbers: list[int]) -> list[int]:
        threads.add(threading.get_ident())
        return numbers

    batcher = make(model, max_batch_size=2)
    assert batcher.predict_batch(range(20)) == [*range(20)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


# Errors


def odd_ones_fail(numbers: list[int]) -> list[int | Exception]:
    return [KeyError(number) if number % 2 else number for number in numbers]


def test_an_items_error_is_its_callers(make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate) -> None:
    batcher = make(odd_ones_fail, max_wait_s=LONG_S, max_batch_size=2)
    good, bad = batcher.submit(2), batcher.submit(3)
    assert good.result(WAIT_S) == 2
    with pytest.raises(KeyError, match="3"):
        bad.result(WAIT_S)
    assert (batcher.stats.answered, batcher.stats.failed) == (1, 1)


def test_of_a_list_the_first_error_is_raised_or_all_are_returned(
    make: Callable[..., DynamicBatcher[Any, Any]],
) -> None:
    batcher = make(odd_ones_fail, max_batch_size=2)
    with pytest.raises(KeyError, match="1"):
        batcher.predict_batch(range(6))
    outcomes = batcher.predict_batch(range(4), return_exceptions=True)
    assert outcomes[::2] == [0, 2]
    assert [str(error) for error in outcomes[1::2]] == ["1", "3"]
    with pytest.raises(KeyError, match="5"):
        batcher.predict(5)


async def test_in_an_event_loop_too(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make(odd_ones_fail, max_batch_size=2)
    with pytest.raises(KeyError, match="1"):
        await batcher.predict_batch(range(6))
    outcomes = await batcher.predict_batch(range(4), return_exceptions=True)
    assert outcomes[::2] == [0, 2]
    assert [str(error) for error in outcomes[1::2]] == ["1", "3"]
    with pytest.raises(KeyError, match="5"):
        await batcher.predict(5)


def poisoned(numbers: list[int]) -> list[int]:
    if -1 in numbers:
        raise ValueError("poison")
    return doubled(numbers)


@pytest.mark.parametrize("isolate_errors", [False, True])
def test_a_batch_that_raises(make: Callable[..., DynamicBatcher[Any, Any]], isolate_errors: bool) -> None:
    batcher = make(poisoned, max_wait_s=LONG_S, max_batch_size=4, isolate_errors=isolate_errors)
    outcomes = batcher.predict_batch([1, 2, -1, 4], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == (
        [int, int, ValueError, int] if isolate_errors else [ValueError] * 4
    )
    assert batcher.predict_batch([1, 2, 3, 4]) == [2, 4, 6, 8], "and the next is fine"
    assert batcher.stats.batches == 2


def test_an_error_keeps_nothing_of_its_call_alive(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    class Item:
        pass

    def fail(items: list[Item]) -> list[Exception]:
        return [KeyError("no")] * len(items)

    batcher = make(fail)
    item = Item()
    gone = weakref.ref(item)
    gc.disable()
    try:
        with pytest.raises(KeyError):
            batcher.predict(item)
        del item
        batcher.submit(Item()).exception(WAIT_S)  # the worker has let go of the batch before
        assert gone() is None, "a cycle would keep it until the collector comes"
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["predict", "predict_batch", "stop"])
def test_a_model_cannot_wait_for_itself(make: Callable[..., DynamicBatcher[Any, Any]], way: str) -> None:
    def model(numbers: list[int]) -> list[Any]:
        return [getattr(batcher, way)(*([] if way == "stop" else [numbers]))]

    async def model_later(numbers: list[int]) -> list[Any]:
        return [await getattr(later, way)(*([] if way == "stop" else [numbers]))]

    batcher, later = make(model), make(model_later)
    for each in (batcher, later):
        with pytest.raises(RuntimeError, match="a predict function cannot wait for the batcher that waits for it"):
            each.predict(1)


def test_a_model_may_ask_another_batcher(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    inner = make()
    assert make(inner.predict_batch).predict(4) == 8


# Overload


def test_more_than_may_wait_are_refused(make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate) -> None:
    batcher = busy(make, gate, max_queue=3)
    answers = [batcher.submit(number) for number in (1, 2)]
    with pytest.raises(BatcherFull) as caught:
        batcher.predict_batch([3, 4])
    assert (caught.value.status, caught.value.limit, caught.value.retry_after_s) == (503, 3, 1.0)
    answers.append(batcher.submit(3))
    with pytest.raises(BatcherFull):
        batcher.predict(4)
    assert (batcher.stats.queue_size, batcher.stats.refused) == (3, 3)
    gate.open()
    assert values(answers) == [2, 4, 6]
    assert batcher.predict(5) == 10


async def test_a_task_is_refused_when_it_asks(make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate) -> None:
    batcher = busy(make, gate, max_queue=1)
    outcomes = asyncio.gather(batcher.predict(1), batcher.predict(2), return_exceptions=True)
    await asyncio.sleep(0)
    gate.open()
    answer, error = await outcomes
    assert answer == 2
    assert isinstance(error, BatcherFull)


# Cancellation


def test_what_is_cancelled_while_it_waits_is_not_computed(
    make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate
) -> None:
    batcher = busy(make, gate, max_queue=2)
    first, second = batcher.submit(1), batcher.submit(2)
    assert first.cancel()
    assert batcher.stats.queue_size == 1
    third = batcher.submit(3)  # there is room again
    gate.open()
    assert values([second, third]) == [4, 6]
    assert gate.batches == [[0], [2, 3]]


async def test_a_task_that_is_cancelled_gives_its_place_back_at_once(
    make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate
) -> None:
    batcher = busy(make, gate)
    tasks = [asyncio.create_task(batcher.predict(1)), asyncio.create_task(batcher.predict_batch([2, 3, 4]))]
    await asyncio.sleep(0)
    assert batcher.stats.queue_size == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert batcher.stats.queue_size == 0
    assert [task.cancelled() for task in tasks] == [True, True]
    gate.open()
    assert await batcher.predict(5) == 10
    assert gate.batches == [[0], [5]]


async def test_a_task_that_is_cancelled_while_it_is_computed_harms_nobody(
    make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate
) -> None:
    batcher = make(gate, max_wait_s=LONG_S, max_batch_size=2)
    leaver, stayer = (asyncio.create_task(batcher.predict(number)) for number in (1, 2))
    assert await asyncio.to_thread(gate.entered.acquire, timeout=WAIT_S)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    gate.open()
    assert await stayer == 4


def test_a_future_that_its_holder_settles_harms_nobody(
    make: Callable[..., DynamicBatcher[Any, Any]], gate: Gate
) -> None:
    batcher = make(gate, max_wait_s=LONG_S, max_batch_size=2)
    mine, other = batcher.submit(1), batcher.submit(2)
    assert gate.entered.acquire(timeout=WAIT_S)
    mine.set_result("mine")
    gate.open()
    assert values([mine, other]) == ["mine", 4]


# Start and stop


def test_what_was_accepted_before_stop_is_answered_and_what_comes_later_refused(gate: Gate) -> None:
    batcher = DynamicBatcher(gate, max_batch_size=2, max_wait_s=LONG_S, workers=2)
    batcher.start()
    answers = [batcher.submit(number) for number in range(9)]
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    assert gate.entered.acquire(timeout=WAIT_S)
    gate.open()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    assert all(answer.done() for answer in answers)
    assert values(answers) == doubled([*range(9)])
    for call in (batcher.submit, batcher.predict):
        with pytest.raises(BatcherStopped):
            call(1)
    with pytest.raises(BatcherStopped):
        batcher.predict_batch([1])


async def test_in_an_event_loop_stop_may_be_awaited_or_not(gate: Gate) -> None:
    batcher = DynamicBatcher(gate, max_wait_s=LONG_S)
    batcher.start()
    answer = asyncio.create_task(batcher.predict(1))
    await asyncio.sleep(0)
    batcher.stop()
    with pytest.raises(BatcherStopped):
        await batcher.predict(2)
    with pytest.raises(BatcherStopped):
        batcher.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batcher.stop(), 0.01)
    assert not answer.done()
    gate.open()
    await batcher.stop()
    assert await answer == 2


def test_a_batcher_that_was_not_started_takes_nothing() -> None:
    batcher = DynamicBatcher(doubled)
    with pytest.raises(BatcherStopped) as caught:
        batcher.predict(1)
    assert (caught.value.status, caught.value.message) == (503, "The batcher is not running.")
    batcher.stop()


def test_starting_and_stopping_twice_changes_nothing_and_it_may_start_again(
    make: Callable[..., DynamicBatcher[Any, Any]],
) -> None:
    batcher = make(workers=2)
    batcher.start()
    assert sum(thread.name.startswith("batch-worker") for thread in threading.enumerate()) == 2
    batcher.stop()
    batcher.stop()
    batcher.start()
    assert batcher.predict(1) == 2


async def test_it_is_a_context_manager_of_both_kinds() -> None:
    async with DynamicBatcher(doubled, max_wait_s=0.0) as batcher:
        assert await batcher.predict(1) == 2
    with batcher:
        answer = batcher.submit(1)
    assert answer.result(0) == 2
    with pytest.raises(BatcherStopped):
        await batcher.predict(1)


def test_no_thread_outlives_it() -> None:
    async def later(numbers: list[int]) -> list[int]:
        return numbers

    with DynamicBatcher(later, max_wait_s=0.0, workers=3) as batcher:
        batcher.predict(1)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("batch-")]
    assert len(threads) == 4
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_threads_that_the_system_does_not_give_leave_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, started = threading.Thread.start, list[threading.Thread]()

    def refuse_the_second(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    batcher = DynamicBatcher(doubled, workers=3, max_wait_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse_the_second)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            batcher.start()
    batcher.stop()
    with batcher:
        assert batcher.predict(1) == 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # from Python 3.12 on, and rightly
def test_a_fork_has_none_of_it(make: Callable[..., DynamicBatcher[Any, Any]]) -> None:
    batcher = make()
    child = os.fork()
    if not child:  # nothing but the exit status leaves this process
        try:
            batcher.predict(1)
        except RuntimeError as error:
            os._exit(0 if "does not survive a fork" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(DynamicBatcher(doubled))


# Arguments


def test_these_are_its_defaults() -> None:
    with DynamicBatcher(doubled) as batcher:
        answers = [batcher.submit(number) for number in range(32)]
        assert values(answers) == doubled([*range(32)])
        with pytest.raises(BatcherFull, match="At most 1000 items"):
            batcher.predict_batch(range(1001))
        assert batcher.stats.batches == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be a whole number from 1 to"),
        ({"max_batch_size": 2.0}, "max_batch_size must be a whole number from 1 to"),
        ({"max_queue": 0}, "max_queue must be a whole number from 1 to"),
        ({"workers": True}, "workers must be a whole number from 1 to"),
        ({"max_wait_s": -0.1}, "max_wait_s must be from 0 to 3600 seconds"),
        ({"max_wait_s": float("nan")}, "max_wait_s must be from 0 to 3600 seconds"),
        ({"max_wait_s": "1"}, "max_wait_s must be from 0 to 3600 seconds"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DynamicBatcher(doubled, **options)
