"""Who waits to be in a batch, and when the next batch is due. No threads and no clock: see ``workers``.

When to go
    A batch is due when it is full, when every caller that can be expected is there, or when a worker has been idle for
    ``max_wait_s`` with somebody waiting. Each caller that waits for its answer is a *call*, with one item or many.

    As many calls are expected as were ever seen at once since a wait last ended in vain; after one that did, as many as
    there were then. A caller that comes back when it is answered, and is alone, is therefore let through at once, and
    eight such callers make batches of eight without waiting any longer than the last of them takes to come back. What
    callers who leave cost is one wait. At first nothing is known, and nobody is let through before their time.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from genkan.batching.errors import BatcherFull

Input = TypeVar("Input")
Output = TypeVar("Output")


@dataclass(slots=True, eq=False)
class Call:
    """One caller, until all of its items are settled: answered, failed or cancelled."""

    unsettled: int


@dataclass(slots=True, eq=False)
class Ticket(Generic[Input, Output]):
    """One item's place. ``since_s`` is when it came; ``answer`` is running from when a batch has it."""

    item: Input
    call: Call
    since_s: float
    answer: Future[Output] = field(default_factory=Future)


class BatchLine(Generic[Input, Output]):
    """First come, first served. An item costs the same however many wait. Not for several threads at once."""

    def __init__(self, *, max_batch_size: int, max_wait_s: float, max_queue: int, adaptive: bool) -> None:
        self._max_batch_size = max_batch_size
        self._max_wait_s = max_wait_s
        self._max_queue = max_queue
        # Keyed by answers, so that one that is cancelled finds its ticket without holding it.
        self._waiting: OrderedDict[Future[Output], Ticket[Input, Output]] = OrderedDict()
        self._adaptive = adaptive
        self._calls = 0
        self._expected = math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_enough(self) -> bool:
        """Whether nobody else is to be waited for."""
        # With a queue shorter than a batch, more than the queue holds will not come.
        full = len(self._waiting) >= min(self._max_batch_size, self._max_queue)
        return full or (self._adaptive and self._calls >= self._expected)

    def put(self, items: Sequence[Input], now_s: float) -> list[Ticket[Input, Output]]:
        """One caller's items, at least one, all or none. Raises BatcherFull."""
        if len(self._waiting) + len(items) > self._max_queue:
            raise BatcherFull(limit=self._max_queue, waiting=len(self._waiting), more=len(items))
        call = Call(len(items))
        tickets = [Ticket[Input, Output](item, call, now_s) for item in items]
        self._waiting.update((ticket.answer, ticket) for ticket in tickets)
        self._calls += 1
        self._expected = max(self._expected, self._calls)
        return tickets

    def due_s(self, free_since_s: float) -> float | None:
        """When a worker that is free since ``free_since_s`` is to take a batch; None while nobody waits."""
        if not self._waiting:
            return None
        since_s = next(iter(self._waiting.values())).since_s
        # A wait counts from when it is the reason that nothing is computed. Who waited for a worker until now would
        # otherwise go without those who were answered a moment ago, and they without it, for ever.
        return since_s if self.is_enough else max(since_s, free_since_s) + self._max_wait_s

    def take(self) -> list[Ticket[Input, Output]]:
        """The oldest that are not cancelled, as a batch. If they are too few, no more are expected from now on."""
        if not self.is_enough:
            self._expected = self._calls
        batch: list[Ticket[Input, Output]] = []
        while self._waiting and len(batch) < self._max_batch_size:
            answer, ticket = self._waiting.popitem(last=False)
            if answer.set_running_or_notify_cancel():
                batch.append(ticket)
            else:
                self.settle([ticket])
        return batch

    def drop(self, answer: Future[Output]) -> None:
        """Whoever waits for ``answer`` has cancelled it. Nothing happens if it was taken before."""
        ticket = self._waiting.pop(answer, None)
        if ticket is not None:
            self.settle([ticket])

    def settle(self, tickets: Iterable[Ticket[Input, Output]]) -> None:
        """Their callers wait no longer. Call it before they hear of it: who is back at once is not one more."""
        for ticket in tickets:
            ticket.call.unsettled -= 1
            if not ticket.call.unsettled:
                self._calls -= 1
