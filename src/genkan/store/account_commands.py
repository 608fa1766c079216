"""What `RedisAccounts` sends, and what the replies mean: plans, admissions and settlements as EVALSHA commands. Pure.

What the scripts in ``store/lua`` are given is described there. Most of a command follows from the plan alone: that part
is packed once for each plan and remembered, so that a request only adds its id, its amounts and its row. So packed, an
admission with four lines costs 0.8 µs, a settlement 1.2, and reading the reply to an admission 0.8.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from genkan.config.store import LedgerConfig
from genkan.store.accounts import Admission, Decision, Kind, Line, LineState, Plan, Settlement
from genkan.store.command import Argument, Script, packed

ADMIT, SETTLE = Script.load("admit"), Script.load("settle")
RENEW, CLOSE_LOST, READ = Script.load("renew"), Script.load("close_lost"), Script.load("read")

#: As the scripts take amounts, and the kind, unit, most and per of a line, since Lua unpacks each in one call. Whole
#: numbers are exact up to 2**53.
AMOUNTS, LINE = struct.Struct("<4d"), struct.Struct("<cBdd")
HOLD_S = 30.0
_MOST_PLANS = 4096
_MOST_MS = 10**14  # some 3,000 years; Redis refuses an expiry that overflows
#: Not "bucket", where earlier versions kept it as text.
_NAME: dict[Kind, str] = {"bucket": "gcra", "window": "window", "lease": "lease", "budget": "budget"}
_LETTER: dict[Kind, bytes] = {"bucket": b"b", "window": b"w", "lease": b"l", "budget": b"$"}


class _Packed(NamedTuple):
    """A plan's part of its commands: what comes before the key of the mark, and what comes between it and the rest."""

    plan: Plan  # keeps it alive, and so its id its own
    admit_head: bytes
    admit_body: bytes
    settle_head: bytes
    settle_body: bytes


class AccountCommands:
    """The commands of accounts whose keys begin with ``prefix`` and a colon."""

    def __init__(self, prefix: str, ledger: LedgerConfig, *, hold_s: float = HOLD_S) -> None:
        """``hold_s``: how long a reservation is kept whose plan has no lease to say so."""
        self.ledger_key = f"{prefix}:ledger"
        self.lost_key = f"{prefix}:lost"
        self._prefix = prefix
        self._mark = f"{prefix}:s:".encode()
        self._reserved_key, self._leases_key = f"{prefix}:reserved", f"{prefix}:leases"
        self._hold_s = hold_s
        self._keep = (ledger.keep_rows, ledger.keep_days * 86_400_000)
        self._packed: dict[int, _Packed] = {}

    def __len__(self) -> int:
        """How many plans are remembered."""
        return len(self._packed)

    def admit(self, admission: Admission) -> bytes:
        """For `ADMIT`, whose reply is for `decision`."""
        part = self._packed.get(id(admission.plan)) or self._pack(admission.plan)
        request_id, draft = admission.request_id.encode(), admission.draft
        return b"%b$%d\r\n%b%b\r\n%b$%d\r\n%b\r\n$32\r\n%b\r\n$%d\r\n%b\r\n" % (
            part.admit_head,
            len(self._mark) + len(request_id),
            self._mark,
            request_id,
            part.admit_body,
            len(request_id),
            request_id,
            AMOUNTS.pack(*admission.amounts),
            len(draft),
            draft,
        )

    def settle(self, settlement: Settlement) -> bytes:
        """For `SETTLE`, whose reply is 0 for a duplicate, 1 for settled, 2 for late."""
        part = self._packed.get(id(settlement.plan)) or self._pack(settlement.plan)
        request_id, row = settlement.request_id.encode(), settlement.row
        return b"%b$%d\r\n%b%b\r\n%b$%d\r\n%b\r\n$1\r\n%d\r\n$64\r\n%b%b\r\n$%d\r\n%b\r\n" % (
            part.settle_head,
            len(self._mark) + len(request_id),
            self._mark,
            request_id,
            part.settle_body,
            len(request_id),
            request_id,
            settlement.was_admitted,
            AMOUNTS.pack(*settlement.reserved),
            AMOUNTS.pack(*settlement.actual),
            len(row),
            row,
        )

    def renew(self, admissions: Sequence[Admission]) -> bytes:
        """For `RENEW`, whose reply is how many leases and reservations it found."""
        keys, args = [self._leases_key], list[str | int]()
        for admission in admissions:
            leases = [line for line in admission.plan if line.kind == "lease"]
            keys += [self._key(line) for line in leases]
            args += [admission.request_id, self._hold_ms(admission.plan) if admission.draft else 0, len(leases)]
            args += [_milliseconds(line.window_s) for line in leases]
        return RENEW.command(keys, args)

    def close_lost(self, at_most: int) -> bytes:
        """For `CLOSE_LOST`, whose reply is how many rows it wrote."""
        keys = (self._leases_key, self._reserved_key, self.lost_key, self.ledger_key)
        return CLOSE_LOST.command(keys, (at_most, self._keep[0]))

    def read(self, plan: Plan) -> bytes:
        """For `READ`, whose reply is for `states`."""
        return READ.command([self._key(line) for line in plan], [_lines(plan)])

    def _key(self, line: Line) -> str:
        # With the kind, so that a limit may change its algorithm: each keeps something else.
        return f"{self._prefix}:{_NAME[line.kind]}:{line.key}"

    def _hold_ms(self, plan: Plan) -> int:
        return _milliseconds(max((line.window_s for line in plan if line.kind == "lease"), default=self._hold_s))

    def _pack(self, plan: Plan) -> _Packed:
        if len(self._packed) >= _MOST_PLANS:
            del self._packed[next(iter(self._packed))]
        keys, lines = [self._key(line) for line in plan], _lines(plan)
        part = _Packed(
            plan,
            *_split(ADMIT, (self._reserved_key, self._leases_key, *keys), (lines, self._hold_ms(plan)), later=3),
            *_split(
                SETTLE,
                (self._reserved_key, self._leases_key, self.lost_key, self.ledger_key, *keys),
                (lines, *self._keep),
                later=4,
            ),
        )
        self._packed[id(plan)] = part
        return part


def decision(plan: Plan, reply: list[int]) -> Decision:
    """What `ADMIT` replied to an admission with ``plan``."""
    numbers = iter(reply)
    denied = next(numbers)
    return Decision(plan[denied - 1] if denied else None, states(numbers))


def states(numbers: Iterator[int]) -> tuple[LineState, ...]:
    """Of each line, from what is left, and µs until it fits (-1: never) and until it is as if never used."""
    return tuple(map(LineState, numbers, numbers, numbers))


def _split(script: Script, keys: Sequence[str], args: Sequence[Argument], *, later: int) -> tuple[bytes, bytes]:
    """EVALSHA without its first key and its last ``later`` arguments: what comes before that key, and what after."""
    count = 3 + 1 + len(keys) + len(args) + later
    head = b"*%d\r\n" % count + _bulks("EVALSHA", script.sha, 1 + len(keys))
    return head, _bulks(*keys, *args)


def _bulks(*args: Argument) -> bytes:
    """Arguments as they stand within a command."""
    return packed(*args).partition(b"\r\n")[2] if args else b""


def _lines(plan: Plan) -> bytes:
    """Of each line its kind, unit, most and per."""
    mosts = [line.burst if line.kind == "bucket" else line.limit for line in plan]
    packed_lines = [
        LINE.pack(_LETTER[line.kind], line.unit + 1, most, _per(line)) for line, most in zip(plan, mosts, strict=True)
    ]
    return b"".join(packed_lines)


def _per(line: Line) -> float:
    if line.kind == "bucket":
        return line.window_s * 1e6 / line.limit
    return max(1, round(line.window_s * 1e6)) if line.kind == "window" else _milliseconds(line.window_s)


def _milliseconds(seconds: float) -> int:
    return max(1, round(min(seconds * 1000, _MOST_MS)))
