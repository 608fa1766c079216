"""Watches the client itself, so that its own slowness is not told as the server's."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from genkan.bench.timing import percentile
from genkan.clock import Clock

_EVERY_S = 0.01
_FREE_S = 0.005  # of lag or delay that a timer and a turn of the loop may take
_SHARE = 0.1  # of the median latency
_BUSY = 0.9  # of a core


@dataclass(slots=True)
class OwnLag:
    """How late the event loop ran what was due, sampled a hundred times a second, and the CPU this process took."""

    lag_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def busy(self) -> float:
        """The share of one core; the client has no more than one."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def p99_s(self) -> float:
        return percentile(self.lag_s, 99) if self.lag_s else 0.0


@asynccontextmanager
async def watched(clock: Clock) -> AsyncIterator[OwnLag]:
    """Watches until the end of the block; only then ``cpu_s`` and ``elapsed_s`` are known."""
    own = OwnLag()
    cpu_s, began_s = time.process_time(), clock.monotonic()
    watching = asyncio.create_task(_watch(own, clock))
    try:
        yield own
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        own.cpu_s, own.elapsed_s = time.process_time() - cpu_s, clock.monotonic() - began_s


async def _watch(own: OwnLag, clock: Clock) -> None:
    while True:
        before_s = clock.monotonic()
        await asyncio.sleep(_EVERY_S)
        own.lag_s.append(max(0.0, clock.monotonic() - before_s - _EVERY_S))


def own_faults(own: OwnLag, delays_s: Sequence[float], latency_p50_s: float) -> list[str]:
    """Why the figures are the client's as much as the server's; empty when they are not."""
    allowed_s = max(_FREE_S, _SHARE * latency_p50_s)
    faults = []
    if own.p99_s > allowed_s:
        faults.append(f"its event loop was late by {1e3 * own.p99_s:.1f} ms (p99)")
    if delays_s and (delay_s := percentile(delays_s, 99)) > allowed_s:
        faults.append(f"it sent requests {1e3 * delay_s:.1f} ms late (p99)")
    if own.busy > _BUSY:
        faults.append(f"it kept {100 * own.busy:.0f} % of a core busy, and has one")
    return faults
