"""What the journal says of requests, a line a record. Pure.

A line is the CRC-32 of its rest in eight hexadecimal digits, a space, a JSON object, and a newline. A request's records
are all in one file, in this order:

* ``begun``: its first attempt is about to be made. Holds all that settles the request if nothing more is heard of it;
* ``attempt``: another attempt is about to be made;
* ``settled``: how it ended. Holds all of the Settlement, so it needs no ``begun`` (one that no attempt was made for);
* ``done``: the store has it, and will not lose it again.

A file's last line may be torn, as its writer died or the disk was full; it was never acted upon.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from genkan.store.accounts import Admission, Amounts, Line, Plan, Settlement, Unit

_PLANS_KEPT = 1024
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # right by its CRC, but not as we write it


class Records:
    """Makes lines. Plans are few and made once, so that each is turned into JSON once. About 2 µs a line."""

    def __init__(self) -> None:
        self._plans: dict[int, tuple[Plan, orjson.Fragment]] = {}

    def begun(self, admission: Admission, was_admitted: bool, attempt: int, deployment: str, unix_s: float) -> bytes:
        return _line(
            {
                "is": "begun",
                "id": admission.request_id,
                "t": unix_s,
                "plan": self._json_of(admission.plan),
                "reserved": list(admission.amounts),
                "draft": admission.draft.decode(),
                "admitted": was_admitted,
                "n": attempt,
                "deployment": deployment,
            }
        )

    def attempt(self, request_id: str, attempt: int, deployment: str, unix_s: float) -> bytes:
        return _line({"is": "attempt", "id": request_id, "t": unix_s, "n": attempt, "deployment": deployment})

    def settled(self, settlement: Settlement, unix_s: float) -> bytes:
        return _line(
            {
                "is": "settled",
                "id": settlement.request_id,
                "t": unix_s,
                "plan": self._json_of(settlement.plan),
                "reserved": list(settlement.reserved),
                "actual": list(settlement.actual),
                "row": settlement.row.decode(),
                "admitted": settlement.was_admitted,
            }
        )

    def done(self, request_ids: list[str]) -> bytes:
        return _line({"is": "done", "ids": request_ids})

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
    damaged: int  # lines, or requests, that cannot be read, besides a torn last line


def contents_of(data: bytes) -> Contents:
    """What is left to do of a file of lines. About 20 µs a line.

    A request that was begun and not settled is settled as lost: with ``actual`` as it was reserved, as what the
    upstreams took is not known, and a row that is its draft with all its attempts, each ``lost``.
    """
    damaged = 0
    requests: dict[str, _Request] = {}
    lines = data.split(b"\n")
    torn = lines.pop()  # empty as a rule
    for line in [*filter(None, lines), torn]:
        try:
            if (record := _parsed(line)) is None:
                damaged += line is not torn
            else:
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
            return Unfinished(_settlement(end, Amounts(*end["actual"]), end["row"].encode()), self.unix_s, False)
        if (begun := self.begun) is not None:
            row = _lost_row(begun["draft"], self.attempts)
            return Unfinished(_settlement(begun, Amounts(*begun["reserved"]), row), self.unix_s, True)
        raise ValueError("attempts of a request that never began")


def _line(record: dict[str, Any]) -> bytes:
    body = orjson.dumps(record)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The line's record; None if it is not as it was written."""
    crc, _, body = line.partition(b" ")
    if crc != b"%08x" % zlib.crc32(body):
        return None
    record = orjson.loads(body)
    return record if isinstance(record, dict) else None


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


def _settlement(record: dict[str, Any], actual: Amounts, row: bytes) -> Settlement:
    plan = tuple(Line(key, kind, Unit(unit), *rest) for key, kind, unit, *rest in record["plan"])
    return Settlement(record["id"], plan, Amounts(*record["reserved"]), actual, row, record["admitted"])


def _lost_row(draft: str, attempts: dict[int, str]) -> bytes:
    if not draft:
        return b""
    row = orjson.loads(draft)
    unknown = {"state": "lost", "usage": None, "estimated": False, "cost_nano_usd": None, "seconds": 0.0}
    tried = [{"n": n, "deployment": deployment, **unknown} for n, deployment in sorted(attempts.items())]
    return orjson.dumps({**row, "state": "lost", "usage": None, "cost_nano_usd": None, "attempts": tried})
