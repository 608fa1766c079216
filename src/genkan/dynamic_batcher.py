"""Batches for any predict function, out of single calls from threads and event loops."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self

from genkan.batching.function import BatchFunction, Model
from genkan.batching.line import BatchLine, Input, Output
from genkan.batching.record import BatcherStatistics
from genkan.batching.workers import BatchWorkers

_MOST = 10**9
_LONGEST_S = 3600.0


class DynamicBatcher(Generic[Input, Output]):
    """Collects single items into batches for ``predict_fn``. For any number of threads and event loops at a time.

    >>> def lengths(texts):
    ...     return [len(text) for text in texts]
    >>> with DynamicBatcher(lengths, max_wait_s=0.01) as batcher:
    ...     batcher.predict("xin chào"), batcher.predict_batch(["a", "bc"])
    (8, [1, 2])

    In an event loop, the same methods are awaited:

    >>> async def main():
    ...     async with DynamicBatcher(lengths) as batcher:
    ...         print(await asyncio.gather(*(batcher.predict("x" * n) for n in range(4))))
    ...         print(batcher.stats.batches, batcher.stats.mean_batch_size, batcher.stats.queue_size)
    >>> asyncio.run(main())
    [0, 1, 2, 3]
    1 4.0 0

    ``predict_fn`` takes a list and returns as many outputs, in order: a list, an array, anything finite that has an
    order. It may also be an object with ``predict_batch`` or ``predict`` (asked for in this order) that does so.
    It is called in ``workers`` threads: by default in one, one batch at a time. If it is async it runs in an event
    loop of the batcher's own, one for all workers, since callers may come from several.

    An output that is an exception is raised to its caller alone. When the function raises, or returns the wrong number
    (ValueError) or kind (TypeError) of outputs, all callers of that batch get that same exception. With
    ``isolate_errors`` such a batch is tried again in halves, so that one bad item harms nobody else; not by default,
    because then items are computed more than once. What is no Exception (SystemExit) arrives as RuntimeError.

    Batches go first come, first served, and never exceed ``max_batch_size``. A worker that is free takes whoever waits
    as soon as they fill a batch, or after ``max_wait_s``, or, if ``adaptive``, as soon as nobody else is expected (see
    ``batching.line``). So a lone caller waits at most ``max_wait_s``, and not again after it was once in vain.

    ``max_queue`` is how many items may wait to be in a batch; then BatcherFull is raised. An item whose caller was
    cancelled while it waited is not computed.

    A lone call costs some 50 µs from a thread and some 80 µs from an event loop; with many callers 30 to 50 µs each,
    and an item of a list 20 µs. A batcher does not survive a fork, and cannot be pickled: make one in each process.
    """

    def __init__(
        self,
        predict_fn: Model[Input, Output],
        max_batch_size: int = 32,
        max_wait_s: float = 0.1,
        max_queue: int = 1000,
        workers: int = 1,
        *,
        adaptive: bool = True,
        isolate_errors: bool = False,
    ) -> None:
        """Starts nothing. Raises ValueError for an argument out of range, TypeError for what cannot be called."""
        for name, number in (("max_batch_size", max_batch_size), ("max_queue", max_queue), ("workers", workers)):
            if type(number) is not int or not 1 <= number <= _MOST:
                raise ValueError(f"{name} must be a whole number from 1 to {_MOST}, not {number!r}")
        if type(max_wait_s) not in (int, float) or not 0 <= max_wait_s <= _LONGEST_S:
            raise ValueError(f"max_wait_s must be from 0 to {_LONGEST_S:.0f} seconds, not {max_wait_s!r}")
        function = BatchFunction[Input, Output](predict_fn, isolate_errors=isolate_errors)
        line = BatchLine[Input, Output](
            max_batch_size=max_batch_size, max_wait_s=max_wait_s, max_queue=max_queue, adaptive=adaptive
        )
        self._crew = BatchWorkers(function, line, workers)

    def start(self) -> None:
        """Start the workers; nothing if they run. A batcher that is stopped may be started again.

        Raises BatcherStopped while it is stopping.
        """
        self._crew.start()

    def submit(self, item: Input) -> "Future[Output]":
        """The future of one item's answer, at once, wherever it is called. Cancel it to give the place back.

        Its callbacks run in a worker's thread. Raises BatcherFull and BatcherStopped.
        """
        return self._crew.put([item])[0]

    def predict(self, item: Input) -> Any:  # the output, or a coroutine of it: no one type says that to both callers
        """One item's output. In a thread whose event loop runs, a coroutine of it, to be awaited.

        Raises BatcherFull, BatcherStopped, and what the predict function raised for it.
        """
        self._crew.check_may_wait()
        return self._awaited(item) if _in_event_loop() else self._waited(item)

    def predict_batch(self, items: Iterable[Input], *, return_exceptions: bool = False) -> Any:
        """The list of outputs, in order. In a thread whose event loop runs, a coroutine of it, to be awaited.

        The items are accepted together or not at all, so more than ``max_queue`` never are; batches are as large as
        ever, and others' items may be in them. Errors are in the list if ``return_exceptions``; otherwise the first is
        raised, when all items are done. Raises BatcherFull and BatcherStopped as well.
        """
        self._crew.check_may_wait()
        given = list(items)
        return (self._awaited_all if _in_event_loop() else self._waited_all)(given, return_exceptions)

    def stop(self) -> Awaitable[None]:
        """Refuse new items from now on, answer all that were accepted, end the threads.

        Returns after that; in a thread whose event loop runs at once, with something to await for it. Nothing if it is
        stopped. An interrupted wait does not interrupt the end.
        """
        self._crew.check_may_wait()
        ending = self._crew.close()
        if not _in_event_loop():
            ending.wait()
        return ending

    @property
    def stats(self) -> BatcherStatistics:
        """How it has been doing. Costs some 0.15 ms."""
        return self._crew.statistics()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._crew.check_may_wait()
        self._crew.close().wait()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    def _waited(self, item: Input) -> Output:
        answer = self.submit(item)
        try:
            return answer.result()
        except BaseException:
            answer.cancel()  # which is for an interrupt while it waits; otherwise it is done
            raise
        finally:
            del answer  # the error that it holds would hold this frame

    async def _awaited(self, item: Input) -> Output:
        return await asyncio.wrap_future(self.submit(item))

    def _waited_all(self, items: list[Input], return_exceptions: bool) -> list[Output | BaseException]:
        answers = self._crew.put(items) if items else []
        try:
            outcomes = _outcomes(answers)
        except BaseException:
            _cancel(answers)
            raise
        return _raise_first(outcomes, return_exceptions)

    async def _awaited_all(self, items: list[Input], return_exceptions: bool) -> list[Output | BaseException]:
        answers = self._crew.put(items) if items else []
        try:
            for answer in reversed(answers):
                if not answer.done():
                    with suppress(Exception):  # it is in the outcomes
                        await asyncio.wrap_future(answer)
        finally:
            _cancel(answers)
        return _raise_first(_outcomes(answers), return_exceptions)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _outcomes(answers: Sequence[Future[Output]]) -> list[Output | BaseException]:
    outcomes: list[Output | BaseException] = []
    for answer in reversed(answers):  # once the last is done most others are: who waits is woken once, not for each
        error = answer.exception()
        outcomes.append(answer.result() if error is None else error)
    outcomes.reverse()
    return outcomes


def _raise_first(outcomes: list[Output | BaseException], return_exceptions: bool) -> list[Output | BaseException]:
    if not return_exceptions:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return outcomes


def _cancel(answers: Iterable[Future[Output]]) -> None:
    for answer in answers:
        answer.cancel()
