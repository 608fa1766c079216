"""Models of every shape, and everything that they may do wrong."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from genkan.batching.function import BatchFunction, predict_function


@pytest.fixture
def make() -> Generator[Callable[..., BatchFunction[Any, Any]], None, None]:
    made: list[BatchFunction[Any, Any]] = []

    def one(model: Any, isolate_errors: bool = False) -> BatchFunction[Any, Any]:
        made.append(BatchFunction(model, isolate_errors=isolate_errors))
        return made[-1]

    yield one
    for function in made:
        function.close()


def doubled(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


async def doubled_later(numbers: list[int]) -> list[int]:
    await asyncio.sleep(0)
    return doubled(numbers)


class Everything:
    def predict_batch(self, numbers: list[int]) -> list[int]:
        return doubled(numbers)

    def predict(self, number: int) -> int:
        raise AssertionError("this one is for single items")

    def __call__(self, number: int) -> int:
        raise AssertionError("this one is for single items")


class Learned:
    def predict(self, numbers: list[int]) -> "np.ndarray[Any, np.dtype[np.int64]]":
        return np.array(numbers) * 2

    def __call__(self, number: int) -> int:
        raise AssertionError("this one is for single items")


class Called:
    def __call__(self, numbers: list[int]) -> Iterator[int]:
        return (2 * number for number in numbers)


class CalledLater:
    async def __call__(self, numbers: list[int]) -> list[int]:
        return doubled(numbers)


MODELS = [
    doubled, doubled_later, Everything(), Learned(), Learned().predict, Called(), CalledLater(),
    lambda numbers: doubled_later(numbers), lambda numbers: tuple(doubled(numbers)),
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_a_model_may_look_like_this(make: Callable[..., BatchFunction[Any, Any]], model: Any) -> None:
    assert make(model).outcomes([1, 2, 3]) == [2, 4, 6]


@pytest.mark.parametrize("model", [None, 3, "predict", object(), Everything, int])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match="a function or an object with predict_batch or predict is needed; given: "):
        predict_function(model)


@pytest.mark.parametrize("made", [None, 3, "abc", b"abc", {1: 1, 2: 2, 3: 3}, {1, 2, 3}])
def test_what_is_no_list_fails_the_batch(make: Callable[..., BatchFunction[Any, Any]], made: Any) -> None:
    outcomes = make(lambda _: made).outcomes([1, 2, 3])
    assert len(outcomes) == 3
    assert all(isinstance(outcome, TypeError) for outcome in outcomes)
    assert str(outcomes[0]) == f"a predict function must return a list of outputs; given: {type(made).__name__}"


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_wrong_number_of_outputs_fails_the_batch(make: Callable[..., BatchFunction[Any, Any]], number: int) -> None:
    outcomes = make(lambda _: [0] * number).outcomes([1, 2, 3])
    assert [str(outcome) for outcome in outcomes] == [
        f"a predict function must return 3 outputs here; given: {number}"
    ] * 3
    assert all(isinstance(outcome, ValueError) for outcome in outcomes)


def test_an_output_that_is_an_exception_is_one_items(make: Callable[..., BatchFunction[Any, Any]]) -> None:
    error = KeyError("two")
    assert make(lambda numbers: [error if number == 2 else number for number in numbers]).outcomes([1, 2, 3]) == [
        1, error, 3,
    ]  # fmt: skip


def test_a_model_that_raises_fails_the_batch(make: Callable[..., BatchFunction[Any, Any]]) -> None:
    error = KeyError("all")

    def fail(_: list[int]) -> list[int]:
        raise error

    assert make(fail).outcomes([1, 2, 3]) == [error] * 3


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), CancelledError(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("how", ["raised", "raised later", "returned"])
def test_what_would_end_more_than_a_call_is_told_as_an_error(
    make: Callable[..., BatchFunction[Any, Any]], error: BaseException, how: str
) -> None:
    def fail(_: list[int]) -> list[BaseException]:
        if how == "returned":
            return [error]
        raise error

    async def fail_later(numbers: list[int]) -> list[BaseException]:
        await asyncio.sleep(0)
        return fail(numbers)

    function = make(fail_later if how == "raised later" else fail)
    for _ in range(2):  # and the loop, if there is one, is there for the next
        (outcome,) = function.outcomes([1])
        assert type(outcome) is RuntimeError
        assert outcome.__cause__ is not None


class Poisoned:
    """Raises for batches with an item that is negative, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers.copy())
        while numbers:  # a model may do with its list what it likes
            if numbers.pop() < 0:
                raise ValueError("negative")
        return doubled(self.batches[-1])


def test_a_batch_that_fails_is_computed_once(make: Callable[..., BatchFunction[Any, Any]]) -> None:
    model = Poisoned()
    assert all(isinstance(outcome, ValueError) for outcome in make(model).outcomes([1, -2, 3]))
    assert model.batches == [[1, -2, 3]]


@pytest.mark.parametrize("place", range(32))
def test_a_bad_item_can_be_kept_from_the_others(make: Callable[..., BatchFunction[Any, Any]], place: int) -> None:
    model = Poisoned()
    numbers = [-1 if number == place else number for number in range(32)]
    outcomes = make(model, isolate_errors=True).outcomes(numbers)
    assert isinstance(outcomes.pop(place), ValueError)
    assert outcomes == doubled([number for number in range(32) if number != place])
    assert len(model.batches) == 1 + 2 * 5


def test_bad_items_only_cost_two_calls_each(make: Callable[..., BatchFunction[Any, Any]]) -> None:
    model = Poisoned()
    outcomes = make(model, isolate_errors=True).outcomes([-1] * 32)
    assert all(isinstance(outcome, ValueError) for outcome in outcomes)
    assert len(model.batches) == 1 + 2 * 31


def test_async_calls_share_one_loop_and_its_end_is_theirs(make: Callable[..., BatchFunction[Any, Any]]) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    left_over: list[asyncio.Task[bool]] = []

    async def model(numbers: list[int]) -> list[int]:
        loops.append(asyncio.get_running_loop())
        left_over.append(asyncio.create_task(asyncio.Event().wait()))
        return numbers

    function = make(model)
    threads = [threading.Thread(target=function.outcomes, args=([1],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(loops) == 3
    assert len(set(loops)) == 1
    function.close()
    assert loops[0].is_closed()
    assert all(task.cancelled() for task in left_over)
    assert function.outcomes([1]) == [1], "closing is not for ever"
    assert not loops[-1].is_closed()
