"""What all workers know of a canary: sums of what was measured, and what was decided of it.

An experiment is a route and a fingerprint of what is compared on it. It has runs, numbered from 1, of which the last is
kept. Sums are added to by batches: each worker numbers its own, and of each worker only a batch with a higher number
than its last is added, so that one whose answer was lost can be sent again. What is decided is a record in bytes that
is not looked into; the first one of a run stands, until an administrator's takes its place.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

AUDITED = 100  # records kept of a route


class ExperimentKey(NamedTuple):
    """Which experiment."""

    route: str
    fingerprint: str  # of what is compared, in hexadecimal


class Batch(NamedTuple):
    """What a worker measured since its last one."""

    worker: str
    number: int  # from 1 on; the worker's last one plus one, or the same again
    amounts: Mapping[str, float]  # by the sum's name; none may be called ``run`` or ``decision``


class Kept(NamedTuple):
    """What is known now."""

    run: int
    sums: dict[str, float]  # of this run, all workers'; those that nothing was added to may be missing
    decision: bytes | None


class CanaryStore(Protocol):
    """All methods raise StoreError, after which it is not known whether it was done; each is one round trip.

    ``run`` is the run that the caller knows of. Where a later one is kept, nothing is changed. Where none is, or only
    an earlier one, the store has lost it, and goes on with the caller's, at nothing.
    """

    async def exchange(self, key: ExperimentKey, run: int, batch: Batch) -> Kept:
        """Add to the sums, once for each of the worker's numbers however often it is sent within a day."""

    async def decide(self, key: ExperimentKey, run: int, record: bytes, *, replaces: bool) -> Kept:
        """Keep this decision, unless there is one and it is not to be replaced. Audited if it is kept."""

    async def restart(self, key: ExperimentKey, run: int, record: bytes) -> Kept:
        """Begin the run after this one, with nothing measured and nothing decided. Audited if it is done."""

    async def audit(self, route: str) -> list[bytes]:
        """The records of this route, of all its experiments, the newest first, at most ``AUDITED``."""


class MemoryCanaries:
    """See CanaryStore. Experiments in this process; nobody else sees them."""

    def __init__(self) -> None:
        self._kept: dict[ExperimentKey, Kept] = {}
        self._numbers: dict[tuple[ExperimentKey, str], int] = {}
        self._audit: dict[str, list[bytes]] = {}

    async def exchange(self, key: ExperimentKey, run: int, batch: Batch) -> Kept:
        kept = self._known(key, run)
        if kept.run == run and batch.number > self._numbers.get((key, batch.worker), 0):
            self._numbers[key, batch.worker] = batch.number
            for name, amount in batch.amounts.items():
                kept.sums[name] = kept.sums.get(name, 0.0) + amount
        return _copied(kept)

    async def decide(self, key: ExperimentKey, run: int, record: bytes, *, replaces: bool) -> Kept:
        kept = self._known(key, run)
        if kept.run == run and (kept.decision is None or replaces):
            kept = self._kept[key] = kept._replace(decision=record)
            self._note(key.route, record)
        return _copied(kept)

    async def restart(self, key: ExperimentKey, run: int, record: bytes) -> Kept:
        kept = self._known(key, run)
        if kept.run == run:
            kept = self._kept[key] = Kept(run + 1, {}, None)
            self._note(key.route, record)
        return _copied(kept)

    async def audit(self, route: str) -> list[bytes]:
        return list(self._audit.get(route, []))

    def _known(self, key: ExperimentKey, run: int) -> Kept:
        kept = self._kept.get(key)
        if kept is None or kept.run < run:
            kept = self._kept[key] = Kept(run, {}, None)
        return kept

    def _note(self, route: str, record: bytes) -> None:
        self._audit[route] = [record, *self._audit.get(route, [])][:AUDITED]


def _copied(kept: Kept) -> Kept:
    return kept._replace(sums=dict(kept.sums))
