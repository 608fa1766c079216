"""Batches for work that belongs to one event loop: the line of `DynamicBatcher`, and no threads."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic

from genkan.batching.line import BatchLine, Input, Output, Ticket


class LoopBatches(Generic[Input, Output]):
    """Collects the items of all calls into batches, and works on those of a batch at the same time.

    Where `DynamicBatcher` calls a function of a list in threads, this awaits ``work`` for each item in the loop of the
    callers, which is where connections are that the work needs; a thread could only hand it back. What batches do for
    such work is to pace it: a long list goes on a batch at a time. The next one begins when all of one has ended, and
    ``at_once`` of them run at most. When a batch is due is decided as there, by `BatchLine`.

    Each item has a task of its own, so one that fails, or whose caller has gone, is no other's matter.
    """

    def __init__(
        self,
        work: Callable[[Input], Coroutine[Any, Any, Output]],
        *,
        max_batch_size: int,
        max_wait_s: float,
        max_queue: int,
        at_once: int,
    ) -> None:
        """``max_queue`` is how many items may wait to be in a batch. For one event loop."""
        self._work = work
        self._line = BatchLine[Input, Output](
            max_batch_size=max_batch_size, max_wait_s=max_wait_s, max_queue=max_queue, adaptive=True
        )
        self._at_once = at_once
        self._batches = 0  # that run
        self._free_since_s = 0.0
        self._tasks: dict[Future[Output], asyncio.Task[Output]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def outcomes(self, items: Sequence[Input]) -> list[Output | BaseException]:
        """For each of the items, at least one, what its work returned or raised, in order. Raises BatcherFull.

        Who is cancelled has its items cancelled as well, and returns when they have ended.
        """
        loop = asyncio.get_running_loop()
        tickets = self._line.put(items, loop.time())
        all_done = _all_done(tickets, loop)
        self._look()
        try:
            await all_done
        except BaseException:
            await self._give_up(tickets)
            raise
        answers = [ticket.answer for ticket in tickets]
        return [answer.exception() or answer.result() for answer in answers]

    async def _give_up(self, tickets: list[Ticket[Input, Output]]) -> None:
        at_work = [task for ticket in tickets if (task := self._tasks.get(ticket.answer)) is not None]
        for ticket in tickets:
            if ticket.answer.cancel():
                self._line.drop(ticket.answer)
        for task in at_work:
            task.cancel()
        if at_work:
            await asyncio.wait(at_work)

    def _look(self) -> None:
        """Begin the batches that are due, and come back when the next one is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._batches < self._at_once and (due_s := self._line.due_s(self._free_since_s)) is not None:
            if due_s > loop.time():
                self._timer = loop.call_at(due_s, self._look)
                return
            self._begin(self._line.take(), loop)

    def _begin(self, batch: list[Ticket[Input, Output]], loop: asyncio.AbstractEventLoop) -> None:
        self._batches += 1
        left = len(batch)

        def ended(ticket: Ticket[Input, Output], task: asyncio.Task[Output]) -> None:
            nonlocal left
            left -= 1
            del self._tasks[ticket.answer]
            self._line.settle([ticket])
            _deliver(ticket.answer, task)
            if not left:
                self._batch_ended(loop)

        for ticket in batch:
            task = self._tasks[ticket.answer] = loop.create_task(self._work(ticket.item))
            task.add_done_callback(partial(ended, ticket))

    def _batch_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._batches == self._at_once:
            self._free_since_s = loop.time()
        self._batches -= 1
        self._look()


def _deliver(answer: Future[Output], task: asyncio.Task[Output]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        answer.set_result(task.result())
    else:
        answer.set_exception(error)


def _all_done(tickets: Sequence[Ticket[Input, Output]], loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    """Is done once all of their answers are."""
    all_done, left = loop.create_future(), len(tickets)

    def one_done(_: Future[Output]) -> None:
        nonlocal left
        left -= 1
        if not left and not all_done.done():
            all_done.set_result(None)

    for ticket in tickets:
        ticket.answer.add_done_callback(one_done)
    return all_done
