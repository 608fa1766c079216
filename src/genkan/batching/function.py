"""A model, whatever it looks like, as one function: a list of inputs in, as many outcomes out, and nothing raised."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import CancelledError, Future
from typing import Generic, Protocol, TypeVar, cast

Input = TypeVar("Input")
Output = TypeVar("Output")
_Out = TypeVar("_Out", covariant=True)
_Result = TypeVar("_Result")

#: As many outputs as inputs, in their order, now or when awaited. One that is an exception is raised to its caller.
Outputs = Iterable[Output | BaseException] | Awaitable[Iterable[Output | BaseException]]
PredictFunction = Callable[[list[Input]], Outputs[Output]]


class Predicts(Protocol[Input, _Out]):
    """A model as scikit-learn has them."""

    def predict(self, items: list[Input], /) -> Outputs[_Out]:
        """A list in, as many outputs out."""


class PredictsBatches(Protocol[Input, _Out]):
    """A model whose ``predict`` may be for single items, since it has this."""

    def predict_batch(self, items: list[Input], /) -> Outputs[_Out]:
        """A list in, as many outputs out."""


Model = PredictFunction[Input, Output] | PredictsBatches[Input, Output] | Predicts[Input, Output]


class BatchFunction(Generic[Input, Output]):
    """Calls the model in the thread that calls this; what is to be awaited runs in one event loop of its own.

    With ``isolate_errors`` a batch that fails is tried again in halves, down to single items, so that only those fail
    that fail alone: 2·log2(n) more calls for one bad item of n, 2n − 2 if all are bad.
    """

    def __init__(self, model: Model[Input, Output], *, isolate_errors: bool) -> None:
        self._predict = predict_function(model)
        self._isolate_errors = isolate_errors
        self._loop: LoopThread | None = None
        self._opening = threading.Lock()

    def outcomes(self, items: list[Input]) -> list[Output | Exception]:
        """For each item its output, or what to raise to its caller. Any number of threads may call this."""
        try:
            return [_deliverable(output) for output in self._outputs(items)]
        except BaseException as error:  # noqa: BLE001 - it is raised to the callers
            if len(items) == 1 or not self._isolate_errors:
                return [_deliverable(error)] * len(items)
        middle = len(items) // 2
        return self.outcomes(items[:middle]) + self.outcomes(items[middle:])

    def close(self) -> None:
        """End the event loop, if there is one; the next batch that needs one has a new one."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _outputs(self, items: list[Input]) -> list[Output | BaseException]:
        made = self._predict(items.copy())  # a model that empties its list must not make us lose count
        if inspect.isawaitable(made):
            made = self._own_loop().run(made)
        # An iterable of something, but not what is asked for: text, or what has no order.
        if not isinstance(made, Iterable) or isinstance(made, str | bytes | Mapping | AbstractSet):
            raise TypeError(f"a predict function must return a list of outputs; given: {type(made).__name__}")
        outputs = list(made)
        if len(outputs) != len(items):
            raise ValueError(f"a predict function must return {len(items)} outputs here; given: {len(outputs)}")
        return outputs

    def _own_loop(self) -> "LoopThread":
        with self._opening:
            if self._loop is None:
                self._loop = LoopThread()
            return self._loop


class LoopThread:
    """An event loop in a thread of its own. One for all calls: what is bound to one, such as a session, is shared."""

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="batch-loop", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[_Result]) -> _Result:
        """What it returns or raises, after it has."""
        return asyncio.run_coroutine_threadsafe(_survivable(awaitable), self._loop.result()).result()

    def close(self) -> None:
        """Cancel what still runs there, and end the thread."""
        self._loop.result().call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop.set_result(runner.get_loop())
                runner.run(self._closing.wait())
        except BaseException as error:
            if self._loop.done():
                raise
            self._loop.set_exception(error)  # no loop could be made, and a batch waits for one


def predict_function(model: Model[Input, Output]) -> PredictFunction[Input, Output]:
    """``predict_batch`` if it has one, else ``predict``, else itself. TypeError if it is a class or none of these."""
    if not inspect.isclass(model):
        named = () if inspect.isroutine(model) else ("predict_batch", "predict")
        for candidate in (*(getattr(model, name, None) for name in named), model):
            if callable(candidate):
                return cast("PredictFunction[Input, Output]", candidate)
    raise TypeError(f"a function or an object with predict_batch or predict is needed; given: {model!r}")


async def _survivable(awaitable: Awaitable[_Result]) -> _Result:
    try:
        return await awaitable
    except (KeyboardInterrupt, SystemExit) as error:  # would end the loop, for all batches to come
        raise _raised(error) from error


def _deliverable(outcome: Output | BaseException) -> Output | Exception:
    """The outcome, unless it is one that would end the caller's loop, or tell it that it was cancelled itself."""
    if not isinstance(outcome, BaseException):
        return outcome
    if isinstance(outcome, Exception) and not isinstance(outcome, StopIteration | CancelledError):
        return outcome
    error = _raised(outcome)
    error.__cause__ = outcome
    return error


def _raised(error: BaseException) -> RuntimeError:
    return RuntimeError(f"a predict function raised {error!r}")
