"""Open and closed loops.

An open loop sends when a request is due, and counts from then: were it to wait for a server that stalls, the requests
that should have come meanwhile would be missing from the figures, and they are the slow ones (coordinated omission). A
closed loop has so many clients, each of which asks again when it is answered: it finds out what a server can do, and
its latencies say little of what users would see.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from genkan.bench.client.outcome import Order, Outcome, Seen
from genkan.clock import Clock

Ask = Callable[[bytes], Awaitable[Seen]]
Take = Callable[[Outcome], None]


async def open_loop(
    orders: Iterator[Order],
    offsets_s: Iterator[float],
    ask: Ask,
    take: Take,
    clock: Clock,
    *,
    max_in_flight: int,
) -> None:
    """Ask each order at its offset and give ``take`` what came of it; returns when the last one ended.

    Beyond ``max_in_flight`` an order waits, and its time runs meanwhile.
    """
    room = asyncio.Semaphore(max_in_flight)
    began_s = clock.monotonic()
    async with asyncio.TaskGroup() as asking:
        # Offsets first: when they end, no order has been taken in vain.
        for offset_s, order in zip(offsets_s, orders, strict=False):
            due_s = began_s + offset_s
            await asyncio.sleep(max(0.0, due_s - clock.monotonic()))
            await room.acquire()
            task = asking.create_task(_one(order, due_s, ask, take, clock))
            task.add_done_callback(lambda _: room.release())


async def closed_loop(
    orders: Iterator[Order], clients: int, ask: Ask, take: Take, clock: Clock, *, until_s: float | None = None
) -> None:
    """Let ``clients`` share the orders until there are none left, or for so many seconds."""
    end_s = float("inf") if until_s is None else clock.monotonic() + until_s

    async def client() -> None:
        while clock.monotonic() < end_s and (order := next(orders, None)) is not None:
            await _one(order, clock.monotonic(), ask, take, clock)

    async with asyncio.TaskGroup() as asking:
        for _ in range(clients):
            asking.create_task(client())


async def _one(order: Order, due_s: float, ask: Ask, take: Take, clock: Clock) -> None:
    started_s = clock.monotonic()
    take(Outcome(order.arm, due_s, started_s, await ask(order.request)))
