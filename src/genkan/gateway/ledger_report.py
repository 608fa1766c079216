"""What the ledger adds up to: requests, tokens, money and savings by model, key, tenant, route or day. Pure.

`Totals` is fed with rows in the ledger's order, some now and more later, and is always right for what it was fed: it
keeps sums for every combination of day, tenant, key, route and model that occurred, and answers any question by adding
up those. A row that turns out to have been wrong, because a lost request was found after all, is taken back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple, get_args

from genkan.gateway.ledger_row import LOST, NO_ERROR, Row, read_row
from genkan.gateway.money import usd_number

By = Literal["model", "key", "tenant", "route", "day"]
BYS: tuple[By, ...] = get_args(By)
_DAY_S = 86_400
_DAY_0 = date(1970, 1, 1).toordinal()
#: How long after it was closed as lost a request may still be found: as long as the store remembers it.
_LATE_S = 8 * _DAY_S


@dataclass(slots=True)
class Sums:
    """What some requests come to. Money is in billionths of a dollar, and is what clients are billed."""

    requests: int = 0
    errors: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens: those that a prefix cache saved
    cache_write_tokens: int = 0
    cost_nano_usd: int = 0  # of those whose cost is known
    unknown_cost: int = 0  # requests that used tokens whose price is not known
    saved_nano_usd: int = 0  # by prefix caches
    stored_answers: int = 0  # requests that got one, of these or of one that was under way; their tokens are not above
    stored_tokens: int = 0  # of their prompts and answers
    stored_saved_nano_usd: int = 0  # what those had cost

    def add_row(self, row: Row) -> None:
        """Count one request."""
        self.requests += 1
        if row.state == LOST:
            self.lost += 1
            return
        if row.state not in NO_ERROR:
            self.errors += 1
        if row.tier is not None:
            self.stored_answers += 1
            self.stored_tokens += 0 if row.usage is None else row.usage.total
            self.stored_saved_nano_usd += row.saved_nano_usd
            return
        if (usage := row.usage) is not None:
            self.prompt_tokens += usage.prompt
            self.completion_tokens += usage.completion
            self.cached_tokens += usage.cached
            self.cache_write_tokens += usage.cache_write
            self.unknown_cost += row.cost_nano_usd is None
        self.cost_nano_usd += row.cost_nano_usd or 0
        self.saved_nano_usd += row.saved_nano_usd

    def take_back_lost(self) -> None:
        """Uncount one request that was counted as lost."""
        self.requests -= 1
        self.lost -= 1

    def add(self, other: "Sums") -> None:
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        """All of it, with the money in dollars besides."""
        counted: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        return counted | {
            "cost_usd": usd_number(self.cost_nano_usd),
            "saved_usd": usd_number(self.saved_nano_usd),
            "stored_saved_usd": usd_number(self.stored_saved_nano_usd),
        }


COUNTERS = tuple(field.name for field in fields(Sums))


class _Cell(NamedTuple):
    day: int  # since 1970
    tenant: str
    key: str | None
    route: str
    model: str | None


class _LostRow(NamedTuple):
    cell: _Cell
    t_s: float


class Totals:
    """Sums over the rows of the ledger that it was fed.

    Memory grows with the combinations of day, tenant, key, route and model (some 600 bytes each) and with the requests
    that were lost in the last eight days, not with the requests.
    """

    def __init__(self) -> None:
        self.cursor = ""  # of the last row it was fed
        self.malformed = 0  # rows that are none; not in the sums
        self.first_s: float | None = None  # when the first request counted ended; None: there is none
        self._cells: dict[_Cell, Sums] = {}
        self._lost: dict[str, _LostRow] = {}

    def feed(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Count the rows that come next in the ledger, with their cursors. About 6 µs a row."""
        for cursor, raw in rows:
            self.cursor = cursor
            if (row := read_row(raw)) is None:
                self.malformed += 1
            else:
                self._count(row)

    def by(self, what: By, *, since: date | None = None, until: date | None = None) -> dict[str | None, Sums]:
        """One sum for each model, key, tenant, route or day, over the days from ``since`` to ``until``, both included.

        Days are UTC's. None stands for requests without a key, or that no model was tried for. Days come in their own
        order, all else with the dearest first. Takes 1 µs a combination and 4 µs a group.
        """
        groups: dict[str | None, Sums] = {}
        for cell, sums in self._between(since, until):
            name = _day_name(cell.day) if what == "day" else getattr(cell, what)
            groups.setdefault(name, Sums()).add(sums)
        if what == "day":
            return dict(sorted(groups.items(), key=lambda group: group[0] or ""))
        return dict(sorted(groups.items(), key=lambda group: (-group[1].cost_nano_usd, group[0] or "")))

    def total(self, *, since: date | None = None, until: date | None = None) -> Sums:
        """The sum over all."""
        total = Sums()
        for _, sums in self._between(since, until):
            total.add(sums)
        return total

    def forget_before(self, day: date) -> None:
        """Drop the days before ``day``, which the ledger no longer has either."""
        first = day.toordinal() - _DAY_0
        for cell in [cell for cell in self._cells if cell.day < first]:
            del self._cells[cell]
        if self.first_s is not None and self.first_s < first * _DAY_S:
            self.first_s = float(first * _DAY_S) if self._cells else None

    def _between(self, since: date | None, until: date | None) -> list[tuple[_Cell, Sums]]:
        first = since.toordinal() - _DAY_0 if since else 0
        last = until.toordinal() - _DAY_0 if until else date.max.toordinal()
        return [(cell, sums) for cell, sums in self._cells.items() if first <= cell.day <= last]

    def _count(self, row: Row) -> None:
        if (lost := self._lost.pop(row.id, None)) is not None:
            self._take_back(lost.cell)
        cell = _Cell(int(row.t_s) // _DAY_S, row.tenant, row.key, row.route, _model(row))
        sums = self._cells.get(cell)
        if sums is None:
            sums = self._cells[cell] = Sums()
        sums.add_row(row)
        if self.first_s is None or row.t_s < self.first_s:
            self.first_s = row.t_s
        if row.state == LOST:
            self._remember_lost(row, cell)

    def _take_back(self, cell: _Cell) -> None:
        if (sums := self._cells.get(cell)) is not None:  # else its day has been forgotten
            sums.take_back_lost()
            if sums.requests == 0:
                del self._cells[cell]

    def _remember_lost(self, row: Row, cell: _Cell) -> None:
        self._lost[row.id] = _LostRow(cell, row.t_s)
        while (oldest := next(iter(self._lost))) != row.id and self._lost[oldest].t_s < row.t_s - _LATE_S:
            del self._lost[oldest]


def report(totals: Totals, by: By, *, since: date | None = None, until: date | None = None) -> dict[str, Any]:
    """The sums by one thing and in all, ready to be written as JSON; see `Totals.by`."""
    groups = totals.by(by, since=since, until=until)
    return {
        "by": by,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "first": _iso(totals.first_s),
        "groups": [{by: name, **sums.as_json()} for name, sums in groups.items()],
        "total": totals.total(since=since, until=until).as_json(),
        "malformed": totals.malformed,
    }


def savings(totals: Totals) -> dict[str, Any]:
    """What prefix caches saved, ours and the upstreams', and stored answers: by model and in all, ready for JSON."""
    return {
        "since": _iso(totals.first_s),
        **_saved(totals.total()),
        "models": [{"model": name, **_saved(sums)} for name, sums in totals.by("model").items()],
    }


def _saved(sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "prompt_tokens": sums.prompt_tokens,
        "saved_tokens": sums.cached_tokens,
        "saved_nano_usd": sums.saved_nano_usd,
        "saved_usd": usd_number(sums.saved_nano_usd),
        "stored_answers": sums.stored_answers,
        "stored_tokens": sums.stored_tokens,
        "stored_saved_nano_usd": sums.stored_saved_nano_usd,
        "stored_saved_usd": usd_number(sums.stored_saved_nano_usd),
    }


def _iso(time_s: float | None) -> str | None:
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC).isoformat()


def _model(row: Row) -> str | None:
    return row.deployment.rpartition("@")[0] or row.deployment or None


def _day_name(day: int) -> str:
    return date.fromordinal(_DAY_0 + day).isoformat()
