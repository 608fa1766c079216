"""Accounts of one process, in its memory: what `RedisAccounts` does, without Redis."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import orjson

from genkan.clock import Clock
from genkan.config.store import LedgerConfig
from genkan.errors import StoreRefused
from genkan.store.accounts import (
    Accounts,
    Admission,
    Decision,
    Kind,
    Line,
    LineState,
    Outcome,
    Plan,
    Settlement,
)
from genkan.store.expiring import Expiring
from genkan.store.memory_lines import LeaseLine, MemoryLine, memory_line, microseconds
from genkan.store.memory_rows import MemoryRows

SETTLED_KEPT_S = 120.0  # a settlement that comes again within it is known for what it is
LOST_KEPT_S = 8 * 86400.0
RESERVED_S = 30.0
_TIDIED = 2  # things looked at whether they can go, with each that may have come
_TIDIED_BY_TIMER = 1000


class MemoryAccounts(Accounts):
    """Limits, budgets and rows of this process alone. For one event loop; nothing is ever awaited.

    ``share`` is the part of every rate and lease (not of budgets) that this process applies, for when Redis is gone and
    each worker goes on by itself. What fits a limit but not the share of it is admitted when nothing else is taken.

    ``hold_s`` is after how long without `renew` a request is lost whose plan has no lease to say so. Leases themselves
    run out only if ``leases_run_out``: without, they are held until they are settled, or this process ends.

    A line costs some 8 µs to admit and 3 to settle. What is as if never used, or no longer has to be known, is dropped
    on the way: a little in each call, and more in `close_lost`, which somebody calls every few seconds.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ledger: LedgerConfig,
        share: float = 1.0,
        hold_s: float = RESERVED_S,
        leases_run_out: bool = True,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}")
        self._clock = clock
        self._share = share
        self._hold_s = hold_s
        self._leases_run_out = leases_run_out
        #: By kind too, so that a limit may change its algorithm. Those to be looked at next come first.
        self._lines: OrderedDict[tuple[Kind, str], MemoryLine] = OrderedDict()
        self._reserved: dict[int, Expiring[bytes]] = {}  # drafts, by how long they are kept
        self._settled = Expiring[bool](microseconds(SETTLED_KEPT_S))
        self._lost = Expiring[bool](microseconds(LOST_KEPT_S))
        self._rows = MemoryRows(keep_rows=ledger.keep_rows, keep_s=ledger.keep_days * 86400.0)

    def __len__(self) -> int:
        """How much is remembered besides rows: lines, reservations, and ids of what was settled or lost."""
        reserved = sum(map(len, self._reserved.values()))
        return len(self._lines) + reserved + len(self._settled) + len(self._lost)

    async def admit(self, admission: Admission, *, timeout_s: float = math.inf) -> Decision:
        now_us = self._now_us()
        self._drop_idle(now_us, _TIDIED * len(admission.plan))
        lines = [self._line(line, now_us) for line in admission.plan]
        costs = [1 if line.kind == "lease" else admission.amounts[line.unit] for line in admission.plan]
        for line, held, cost in zip(admission.plan, lines, costs, strict=True):
            if not held.fits(now_us, cost):
                return Decision(line, tuple(held.state(now_us, cost) for held, cost in zip(lines, costs, strict=True)))
        if not admission.draft or self._reserve(admission, now_us):
            for held, cost in zip(lines, costs, strict=True):
                held.take(admission.request_id, now_us, cost)
        return Decision(None, tuple(held.state(now_us, 0) for held in lines))

    async def settle(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        now_us = self._now_us()
        self._tidy(now_us, _TIDIED * sum(1 + len(settlement.plan) for settlement in settlements))
        return [self._settle(settlement, now_us) for settlement in settlements]

    async def renew(self, admissions: Sequence[Admission]) -> None:
        now_us = self._now_us()
        for admission in admissions:
            for line in admission.plan:
                held = self._lines.get((line.kind, line.key))
                if isinstance(held, LeaseLine):
                    held.renew(admission.request_id, now_us)
            for drafts in self._reserved.values():
                drafts.renew(admission.request_id, now_us)

    async def close_lost(self, *, at_most: int = 100) -> int:
        now_us = self._now_us()
        self._tidy(now_us, _TIDIED_BY_TIMER)
        closed = 0
        for drafts in self._reserved.values():
            while closed < at_most and (due := drafts.due(now_us)) is not None:
                request_id, draft = due
                self._lost.put(request_id, now_us, True)
                self._rows.append(draft, self._clock.unix())
                closed += 1
        return closed

    async def read(self, plan: Plan) -> list[LineState]:
        now_us = self._now_us()
        return [(self._known(line, now_us) or self._unused(line)).read(now_us) for line in plan]

    async def rows(self, after: str = "", *, at_most: int = 1000) -> list[tuple[str, bytes]]:
        """Raises StoreRefused if ``after`` is no cursor."""
        try:
            return self._rows.after(after, at_most)
        except ValueError:
            raise StoreRefused("ERR not a cursor of the ledger") from None

    async def already_settled(self, request_ids: Sequence[str], since_s: float) -> set[str]:
        wanted = {request_id for request_id in request_ids if request_id not in self._lost}
        return wanted.intersection(map(_id, self._rows.since(since_s))) if wanted else wanted

    def _settle(self, settlement: Settlement, now_us: int) -> Outcome:
        request_id, row = settlement.request_id, settlement.row
        if self._settled.get(request_id, now_us):
            return "duplicate"
        self._settled.put(request_id, now_us, True)
        is_reserved = any(drafts.pop(request_id) for drafts in self._reserved.values())
        is_late = not is_reserved and self._lost.pop(request_id)
        # Who has a row has a reservation; if it is nowhere, nothing was taken here, whatever the one who asks believes.
        was_taken = is_reserved or is_late or (settlement.was_admitted and not row)
        self._put_right(settlement, was_taken, now_us)
        if row:
            self._rows.append(row[:-1] + b',"late":true}' if is_late else row, self._clock.unix())
        return "late" if is_late else "settled"

    def _put_right(self, settlement: Settlement, was_taken: bool, now_us: int) -> None:
        request_id = settlement.request_id
        for line in settlement.plan:
            reserved, actual = settlement.reserved[line.unit], settlement.actual[line.unit]
            if line.kind in ("lease", "window"):  # these know whether they have it
                if (held := self._known(line, now_us)) is not None:
                    held.settle(request_id, now_us, reserved, actual)
            elif was_taken:
                self._line(line, now_us).settle(request_id, now_us, reserved, actual)
            elif line.kind == "budget":
                self._line(line, now_us).take(request_id, now_us, actual)

    def _reserve(self, admission: Admission, now_us: int) -> bool:
        """Keep its draft; False if it is kept already, or was settled before it was admitted."""
        request_id = admission.request_id
        if self._settled.get(request_id, now_us) or any(request_id in drafts for drafts in self._reserved.values()):
            return False
        leases_s = (line.window_s for line in admission.plan if line.kind == "lease")
        kept_us = microseconds(max(leases_s, default=self._hold_s))
        self._reserved.setdefault(kept_us, Expiring(kept_us)).put(request_id, now_us, admission.draft)
        return True

    def _line(self, line: Line, now_us: int) -> MemoryLine:
        held = self._known(line, now_us)
        if held is None:
            held = self._lines[line.kind, line.key] = self._unused(line)
        return held

    def _unused(self, line: Line) -> MemoryLine:
        return memory_line(line, self._share, leases_run_out=self._leases_run_out)

    def _known(self, line: Line, now_us: int) -> MemoryLine | None:
        held = self._lines.get((line.kind, line.key))
        if held is not None and held.line is not line and held.line != line:
            held.change(line, now_us)
        return held

    def _tidy(self, now_us: int, at_most: int) -> None:
        self._settled.forget(now_us, at_most)
        self._lost.forget(now_us, at_most)
        self._drop_idle(now_us, at_most)

    def _drop_idle(self, now_us: int, at_most: int) -> None:
        """Look at the next few lines, in turn, and drop those that are as if never used."""
        for _ in range(min(at_most, len(self._lines))):
            place = next(iter(self._lines))
            if self._lines[place].is_idle(now_us):
                del self._lines[place]
            else:
                self._lines.move_to_end(place)

    def _now_us(self) -> int:
        return microseconds(self._clock.monotonic())


def _id(row: bytes) -> object:
    return orjson.loads(row).get("id")
