"""A canary as one worker sees it: two arms that are measured, how large the canary's share is, and why."""

import asyncio
import hashlib
import logging
import random
import secrets
from typing import Literal, NamedTuple, Protocol

import orjson

from genkan.clock import Clock
from genkan.config import CanaryConfig
from genkan.errors import StoreError
from genkan.gateway.canary.decision import Verdict, judge
from genkan.gateway.canary.record import AUTO, Action, Record
from genkan.gateway.canary.report import compared, figures
from genkan.gateway.canary.sums import ArmRecorder, ArmSums
from genkan.store.canaries import Batch, CanaryStore, ExperimentKey, Kept

_SYNC_EVERY_S = 1.0

#: ``worse`` and ``no_worse``: it was found, but is only reported; else it was acted upon, or by an administrator.
State = Literal["running", "promoted", "rolled_back", "worse", "no_worse"]

_log = logging.getLogger("genkan.gateway")


class Side(NamedTuple):
    """What answers on one side."""

    model: str  # as the configuration names it
    identity: str  # whatever changes when it is no longer the same: its revision, say


class CanaryObserver(Protocol):
    """Takes notes, quickly: it is called in the event loop."""

    def canary_changed(self, route: str, before: State, after: State, record: Record | None, *, is_ours: bool) -> None:
        """The canary's state is another. Every worker is told; ``is_ours``: and this one has decided it.

        ``record``: why; None if it has begun anew.
        """


class Experiment:
    """One route's canary. For one event loop; no task and no lock for a request.

    ``control`` and ``canary`` take samples, for about a microsecond each. ``share`` of the requests, 0 to 1, are the
    canary's at the moment: as configured while nothing is decided or it is only reported, 0 after a rollback, 1 after
    a promotion. What workers measure is added up in the store, which is asked once a second; who first finds that
    there is enough to decide, decides for all. While the store is lost the share stays, and samples are kept.
    """

    def __init__(
        self,
        route: str,
        config: CanaryConfig,
        store: CanaryStore,
        *,
        control: Side,
        canary: Side,
        clock: Clock,
        observer: CanaryObserver | None = None,
        sync_every_s: float = _SYNC_EVERY_S,
    ) -> None:
        """If a side is not the one that it was, or a guard, the mode or ``error_probability``, it begins anew."""
        self.route = route
        self.config = config
        self.control = ArmRecorder("control", clock)
        self.canary = ArmRecorder("canary", clock)
        self.state: State = "running"
        self.share = config.percent / 100
        self._sides = (control, canary)
        self._key = ExperimentKey(route, _fingerprint(config, control, canary))
        self._store = store
        self._clock = clock
        self._observer = observer
        self._sync_every_s = sync_every_s
        self._worker = secrets.token_hex(8)
        self._batch = Batch(self._worker, 0, {})
        self._is_told = True  # the store has the batch
        self._kept = Kept(1, {}, None)
        self._record: Record | None = None
        self._written: bytes | None = None  # what this worker has decided last, whether the store took it or not
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask the store once, and go on to do so in the background. Raises nothing; waits for a lost store no longer
        than its own timeout."""
        await self._try_sync()
        self._task = asyncio.create_task(self._keep_syncing(), name=f"canary of {self.route}")

    async def aclose(self) -> None:
        """Tell the store what is left, if it is there, and stop. A second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._try_sync()

    async def sync(self) -> None:
        """Tell the store what was measured since, take over what it knows, and decide if there is enough to.

        Raises StoreError; then what was not told is told the next time, once. Cost: a round trip, and about 0.1 ms.
        """
        async with self._lock:
            await self._exchange()
            if self._kept.decision is not None and self._record is not None:
                return
            if self._record is not None:  # the store has lost what we know
                await self._decide(self._record)
                return
            verdict = judge(*self._sums(), self.config)
            if verdict.state != "running":
                await self._decide(self._new_record(AUTO, _MEANS[verdict.state], verdict))

    async def override(self, action: Action, who: str) -> None:
        """``promote``, ``rollback`` or ``restart`` it whatever the figures say; audited. Raises StoreError."""
        async with self._lock:
            await self._exchange()
            record = self._new_record(who, action, judge(*self._sums(), self.config))
            if action == "restart":
                kept = await self._store.restart(self._key, self._kept.run, record.write())
                self._take(kept, has_restarted=kept.run == self._kept.run + 1)
            else:
                await self._decide(record, replaces=True)

    async def report(self) -> dict[str, object]:
        """All that is known, for JSON: see `genkan.gateway.canary.report`. Synchronises first.

        If the store is lost, it is what was known last, ``is_current`` is false, and there is no audit. Raises nothing.
        """
        is_current, audit = True, list[bytes]()
        try:
            await self.sync()
            audit = await self._store.audit(self.route)
        except StoreError:
            is_current = False
        control, canary = self._sums()
        return {
            "route": self.route,
            "mode": self.config.mode,
            "state": self.state,
            "share": self.share,
            "run": self._kept.run,
            "is_current": is_current,
            "control_model": self._sides[0].model,
            "canary_model": self._sides[1].model,
            **figures(control, canary),
            "verdict": judge(control, canary, self.config).state,
            "guards": compared(judge(control, canary, self.config)),
            "error_probability": self.config.error_probability,
            "min_requests": self.config.min_requests,
            "decision": self._record._asdict() if self._record else None,
            "audit": [record._asdict() for record in map(Record.read, audit) if record is not None],
        }

    # with the store

    async def _exchange(self) -> None:
        if self._is_told:
            amounts = self.control.take().named("control") | self.canary.take().named("canary")
            self._batch = Batch(self._worker, self._batch.number + 1, amounts)
            self._is_told = False
        kept = await self._store.exchange(self._key, self._kept.run, self._batch)
        self._is_told = True
        self._take(kept)

    async def _decide(self, record: Record, *, replaces: bool = False) -> None:
        is_unreadable = self._kept.decision is not None and Record.read(self._kept.decision) is None
        self._written = record.write()
        replaces = replaces or is_unreadable
        self._take(await self._store.decide(self._key, self._kept.run, self._written, replaces=replaces))

    def _take(self, kept: Kept, *, has_restarted: bool = False) -> None:
        """What the store knows is known here too. But for a decision that it has lost: that holds."""
        is_later = kept.run > self._kept.run
        if is_later:  # what was measured meanwhile is of either run
            self.control.restart()
            self.canary.restart()
        self._kept = kept
        known = Record.read(kept.decision) if kept.decision is not None else None
        if known is not None or is_later:
            self._record = known
        self._follow(is_ours=has_restarted or (known is not None and kept.decision == self._written))

    def _follow(self, *, is_ours: bool) -> None:
        """Be in the state that the decision means."""
        before, self.state = self.state, self._meant()
        self.share = {"promoted": 1.0, "rolled_back": 0.0}.get(self.state, self.config.percent / 100)
        if self.state != before and self._observer is not None:
            self._observer.canary_changed(self.route, before, self.state, self._record, is_ours=is_ours)

    def _meant(self) -> State:
        record = self._record
        if record is None:
            return "running"
        acts = record.by != AUTO or self.config.on_decision == "act"
        if record.action == "promote":
            return "promoted" if acts else "no_worse"
        return "rolled_back" if acts else "worse"

    def _sums(self) -> tuple[ArmSums, ArmSums]:
        """Of all workers, control and canary."""
        return ArmSums.from_named("control", self._kept.sums), ArmSums.from_named("canary", self._kept.sums)

    def _new_record(self, by: str, action: Action, verdict: Verdict) -> Record:
        control, canary = self._sides
        return Record(
            at_unix_s=self._clock.unix(),
            by=by,
            action=action,
            guard=verdict.by if by == AUTO else "",
            control=control.model,
            canary=canary.model,
            fingerprint=self._key.fingerprint,
            run=self._kept.run,
            error_probability=self.config.error_probability,
            figures={**figures(*self._sums()), "guards": compared(verdict)},
        )

    # behind

    async def _keep_syncing(self) -> None:
        while True:
            await asyncio.sleep(self._sync_every_s * random.uniform(0.8, 1.2))  # noqa: S311 (spreads load)
            await self._try_sync()

    async def _try_sync(self) -> None:
        try:
            await self.sync()
        except StoreError:  # who talks to Redis says so, once
            pass
        except Exception:  # noqa: BLE001 - a bug here must not end the experiment
            _log.exception("the canary of %s could not be looked at", self.route)


_MEANS: dict[str, Action] = {"worse": "rollback", "no_worse": "promote"}


def _fingerprint(config: CanaryConfig, control: Side, canary: Side) -> str:
    asked = [[*control], [*canary], config.mode, config.guards.model_dump(), config.error_probability]
    return hashlib.blake2b(orjson.dumps(asked), digest_size=8).hexdigest()
