"""What the journal says of requests, a line a record. Pure.

A file's first line names its seed. Any other is the CRC-32 of its rest, begun with that seed, in eight hexadecimal
digits, a space, a JSON object and, where there is one, a tab and a row of the ledger byte for byte (JSON has tabs only
between its values, and ours has none); then a newline. A request's records are all in one file, in this order:

* ``begun``: its first attempt is about to be made. Holds all that settles the request if nothing more is heard of it,
  and its draft as the row;
* ``attempt``: another attempt is about to be made;
* ``settled``: how it ended, and its row; with all of the Settlement if there is no ``begun`` (no attempt, say).
  Should its ``begun`` be damaged the row stands, and its limits stay as they are;
* ``done``: the store has it, and will not lose it again.

A file's last line may be torn, as its writer died or the disk was full; it was never acted upon. After that there may
be lines of an earlier life of the file, with another seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import orjson

from genkan.store.accounts import Admission, Amounts, Line, Plan, Settlement, Unit

_FIRST = b"genkan journal 2 "  # the number is that of this format
_PLANS_KEPT = 1024
_NOTHING_TAKEN: dict[str, Any] = {"plan": [], "reserved": [0, 0, 0, 0]}
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # right by its CRC, but not as we write it


class Records:
    """Makes lines. Plans are few and made once, so that each is turned into JSON once. About 1.5 µs a line."""

    def __init__(self) -> None:
        self._plans: dict[int, tuple[Plan, orjson.Fragment]] = {}

    def begun(
        self, admission: Admission, was_admitted: bool, attempt: int, deployment: str, unix_s: float, *, seed: int = 0
    ) -> bytes:
        return _line(
            seed,
            {
                "is": "begun",
                "id": admission.request_id,
                "t": unix_s,
                "plan": self._json_of(admission.plan),
                "reserved": [*admission.amounts],
                "admitted": was_admitted,
                "n": attempt,
                "deployment": deployment,
            },
            admission.draft,
        )

    def attempt(self, request_id: str, attempt: int, deployment: str, unix_s: float, *, seed: int = 0) -> bytes:
        return _line(seed, {"is": "attempt", "id": request_id, "t": unix_s, "n": attempt, "deployment": deployment})

    def settled(self, settlement: Settlement, unix_s: float, *, has_begun: bool, seed: int = 0) -> bytes:
        record = {
            "is": "settled",
            "id": settlement.request_id,
            "t": unix_s,
            "actual": [*settlement.actual],
            "admitted": settlement.was_admitted,
        }
        if not has_begun:
            record["plan"] = self._json_of(settlement.plan)
            record["reserved"] = [*settlement.reserved]
        return _line(seed, record, settlement.row)

    def done(self, request_ids: list[str], *, seed: int = 0) -> bytes:
        return _line(seed, {"is": "done", "ids": request_ids})

    def _json_of(self, plan: Plan) -> orjson.Fragment:
        known = self._plans.get(id(plan))
        if known is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            lines = [[*_fields(line)] for line in plan]
            known = self._plans[id(plan)] = plan, orjson.Fragment(orjson.dumps(lines))  # the plan lives as long
        return known[1]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A request that the store may not know the end of. ``is_lost``: nobody does, this was made from its beginning."""

    settlement: Settlement
    unix_s: float  # of its last record
    is_lost: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file's lines come to."""

    unfinished: list[Unfinished]
    damaged: int  # lines, or requests, that cannot be read, but for lines after the last that can


def first_line(seed: int) -> bytes:
    """The first of a file whose other lines are made with ``seed``, of 32 bits."""
    return b"%b%08x\n" % (_FIRST, seed)


def contents_of(data: bytes) -> Contents:
    """What is left to do of a file of lines. About 20 µs a line.

    A request that was begun and not settled is settled as lost: with ``actual`` as it was reserved, as what the
    upstreams took is not known, and a row that is its draft with all its attempts, each ``lost``.
    """
    first, _, rest = data.partition(b"\n")
    seed = _seed(first)
    if seed is None:
        return Contents([], damaged=1 if data else 0)
    requests: dict[str, _Request] = {}
    damaged = unknown = 0  # lines, before the last that is sound, and after it
    for line in filter(None, rest.split(b"\n")):
        try:
            if (record := _parsed(line, seed)) is None:
                unknown += 1
                continue
            damaged, unknown = damaged + unknown, 0
            _note(requests, record)
        except _UNREADABLE:
            damaged += 1
    unfinished = []
    for request in requests.values():
        try:
            if (found := request.unfinished()) is not None:
                unfinished.append(found)
        except _UNREADABLE:
            damaged += 1
    return Contents(unfinished, damaged)


@dataclass(slots=True)
class _Request:
    """The records of one request."""

    unix_s: float = 0.0
    begun: dict[str, Any] | None = None
    attempts: dict[int, str] = field(default_factory=dict)
    settled: dict[str, Any] | None = None
    is_done: bool = False

    def unfinished(self) -> Unfinished | None:
        if self.is_done:
            return None
        if (end := self.settled) is not None:
            taken = {**(self.begun or _NOTHING_TAKEN), **end}
            settlement = _settlement(taken, Amounts(*end["actual"]), end["row"])
            return Unfinished(settlement, self.unix_s, is_lost=False)
        if (begun := self.begun) is not None:
            row = _lost_row(begun["row"], self.attempts)
            settlement = _settlement(begun, Amounts(*begun["reserved"]), row)
            return Unfinished(settlement, self.unix_s, is_lost=True)
        raise ValueError("attempts of a request that never began")


def readable(line: bytes) -> dict[str, Any]:
    """For people: what a line says that was made here, with its row as an object."""
    record = _parsed(line.rstrip(b"\n"), 0)
    assert record is not None
    row = record["row"]
    return {**record, "row": orjson.loads(row) if row else None}


def _seed(first: bytes) -> int | None:
    """That of a file with this first line; None if it is not ours."""
    digits = first.removeprefix(_FIRST)
    try:
        return int(digits, 16) if len(digits) == 8 and digits != first else None
    except ValueError:
        return None


def _line(seed: int, record: dict[str, Any], row: bytes = b"") -> bytes:
    body = b"%b\t%b" % (orjson.dumps(record), row) if row else orjson.dumps(record)
    return b"%08x %b\n" % (crc32(body, seed), body)


def _parsed(line: bytes, seed: int) -> dict[str, Any] | None:
    """The line's record with ``row``, its row or nothing; None if it is not as it was written."""
    crc, _, body = line.partition(b" ")
    if crc != b"%08x" % crc32(body, seed):
        return None
    text, _, row = body.partition(b"\t")
    record = orjson.loads(text)
    return {**record, "row": row} if isinstance(record, dict) else None


def _note(requests: dict[str, _Request], record: dict[str, Any]) -> None:
    kind = record["is"]
    if kind == "done":
        for request_id in record["ids"]:
            requests.setdefault(request_id, _Request()).is_done = True
        return
    if kind not in ("begun", "attempt", "settled"):
        raise ValueError(f"an unknown kind of record, '{kind}'")
    request_id, unix_s = record["id"], float(record["t"])
    request = requests.setdefault(request_id, _Request())
    request.unix_s = max(request.unix_s, unix_s)
    if kind == "settled":
        request.settled = record
        return
    if kind == "begun":
        request.begun = record
    request.attempts[record["n"]] = record["deployment"]


def _fields(line: Line) -> Iterable[str | int | float | bool]:
    yield from (line.key, line.kind, int(line.unit), line.limit, line.window_s, line.burst, line.scope, line.is_own)


def _settlement(taken: dict[str, Any], actual: Amounts, row: bytes) -> Settlement:
    """``taken`` is the record that says what was reserved of what."""
    plan = tuple(Line(key, kind, Unit(unit), *rest) for key, kind, unit, *rest in taken["plan"])
    return Settlement(taken["id"], plan, Amounts(*taken["reserved"]), actual, row, taken["admitted"])


def _lost_row(draft: bytes, attempts: dict[int, str]) -> bytes:
    if not draft:
        return b""
    row = orjson.loads(draft)
    unknown = {"state": "lost", "usage": None, "estimated": False, "cost_nano_usd": None, "seconds": 0.0}
    tried = [{"n": n, "deployment": deployment, **unknown} for n, deployment in sorted(attempts.items())]
    return orjson.dumps({**row, "state": "lost", "usage": None, "cost_nano_usd": None, "attempts": tried})
