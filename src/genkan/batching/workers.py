"""The threads that compute batches, and the line in front of them."""

import asyncio
import os
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Generic, Literal

from genkan.batching.errors import BatcherFull, BatcherStopped
from genkan.batching.function import BatchFunction
from genkan.batching.line import BatchLine, Input, Output, Ticket
from genkan.batching.record import BatcherStatistics, BatchRecord

#: The workers whose batch is being computed here.
_computing: ContextVar[object] = ContextVar("computing", default=None)


class BatchWorkers(Generic[Input, Output]):
    """``count`` threads for one line. They may be started, closed and started again; all methods are for any thread."""

    def __init__(self, function: BatchFunction[Input, Output], line: BatchLine[Input, Output], count: int) -> None:
        self._function = function
        self._line = line
        self._count = count
        self._at_work = 0
        self._record = BatchRecord()
        # Guards all that changes; workers wait on it for a batch to be due.
        self._changed = threading.Condition(threading.Lock())
        self._state: Literal["stopped", "running", "stopping"] = "stopped"
        self._process = os.getpid()
        self._ended: Future[None] = Future()
        self._ended.set_result(None)

    def start(self) -> None:
        """Nothing if they run. Raises BatcherStopped while they are stopping."""
        with self._changed:
            if self._state == "stopping":
                raise BatcherStopped
            if self._state == "running":
                return
            self._state, self._process, self._ended = "running", os.getpid(), Future()
            self._at_work = self._count
        for number in range(self._count):
            try:
                threading.Thread(target=self._work, name=f"batch-worker-{number}", daemon=True).start()
            except BaseException:  # the system has no more threads for us
                self.close()
                self._leave(self._count - number)
                raise

    def put(self, items: Sequence[Input]) -> list["Future[Output]"]:
        """One caller's items, at least one, all or none. Raises BatcherFull, BatcherStopped, RuntimeError after a fork.

        An answer that is cancelled while it waits is dropped; its place is free at once.
        """
        self._check_process()
        with self._changed:
            if self._state != "running":
                raise BatcherStopped
            had_nobody = not self._line
            try:
                tickets = self._line.put(items, time.monotonic())
            except BatcherFull:
                self._record.refused += len(items)
                raise
            if had_nobody or self._line.is_enough:  # otherwise somebody waits already, and knows until when
                self._changed.notify()
        answers = [ticket.answer for ticket in tickets]
        for answer in answers:
            answer.add_done_callback(self._drop_cancelled)
        return answers

    def close(self) -> "Ending":
        """Refuse new items from now on, and end when all that were accepted are answered. Does not wait for that."""
        self._check_process()
        with self._changed:
            if self._state == "running":
                self._state = "stopping"
                self._changed.notify_all()
            return Ending(self._ended)

    def check_may_wait(self) -> None:
        """RuntimeError inside the predict function, which would wait for itself."""
        if _computing.get() is self:
            raise RuntimeError("a predict function cannot wait for the batcher that waits for it")

    def statistics(self) -> BatcherStatistics:
        """How they have been doing."""
        with self._changed:
            return self._record.statistics(len(self._line))

    def _check_process(self) -> None:
        if self._process != os.getpid():  # before any lock: another thread may have held it when the process forked
            raise RuntimeError("a batcher does not survive a fork: make one in each process")

    def _drop_cancelled(self, answer: "Future[Output]") -> None:
        if answer.cancelled():
            with self._changed:
                self._line.drop(answer)

    # In the threads:

    def _work(self) -> None:
        _computing.set(self)  # also where an async function runs, since its task is made in this context
        try:
            while batch := self._next_batch():
                outcomes = self._function.outcomes([ticket.item for ticket in batch])
                self._settle(batch, outcomes)
                _deliver(batch, outcomes)
                del batch, outcomes  # they may be large, and the next may be long in coming
        finally:
            self._leave()

    def _next_batch(self) -> list[Ticket[Input, Output]]:
        """The next batch when it is due, or none at all when all is done."""
        free_since_s = time.monotonic()
        with self._changed:
            while (due_s := self._line.due_s(free_since_s)) is not None or self._state == "running":
                wait_s = None if due_s is None else due_s - time.monotonic()
                if self._state == "running" and (wait_s is None or wait_s > 0):
                    self._changed.wait(wait_s)
                elif batch := self._line.take():
                    self._record.began(len(batch))
                    if self._line:
                        self._changed.notify()
                    return batch
            return []

    def _settle(self, batch: list[Ticket[Input, Output]], outcomes: list[Output | Exception]) -> None:
        now_s = time.monotonic()
        failed = sum(isinstance(outcome, Exception) for outcome in outcomes)
        with self._changed:
            self._line.settle(batch)
            latencies_s = (now_s - ticket.since_s for ticket in batch)
            self._record.ended(latencies_s, answered=len(batch) - failed, failed=failed)

    def _leave(self, workers: int = 1) -> None:
        with self._changed:
            self._at_work -= workers
            if self._at_work:
                return
        self._function.close()
        with self._changed:
            self._state = "stopped"
        self._ended.set_result(None)


class Ending:
    """The end of the workers, to be waited for in a thread or an event loop, or not at all."""

    def __init__(self, ended: "Future[None]") -> None:
        self._ended = ended

    def wait(self) -> None:
        """Return when every answer is there, and every thread past its last batch."""
        self._ended.result()

    def __await__(self) -> Generator[Any, None, None]:
        # Who is cancelled stops waiting; nobody else does.
        return asyncio.shield(asyncio.wrap_future(self._ended)).__await__()


def _deliver(batch: list[Ticket[Input, Output]], outcomes: list[Output | Exception]) -> None:
    for ticket, outcome in zip(batch, outcomes, strict=True):
        with suppress(InvalidStateError):  # whoever has the future from ``submit`` may have settled it
            if isinstance(outcome, Exception):
                ticket.answer.set_exception(outcome)
            else:
                ticket.answer.set_result(outcome)
