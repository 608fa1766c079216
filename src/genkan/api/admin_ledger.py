"""``/admin/ledger``, ``/admin/savings``, ``/admin/cost/report``: the ledger's rows and what they add up to."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.clock import Clock
from genkan.errors import AccountsUnavailable, InvalidRequest, StoreError
from genkan.gateway.ledger_export import Form, LedgerExport
from genkan.gateway.ledger_pages import ledger_pages
from genkan.gateway.ledger_report import BYS, Totals, report, savings
from genkan.store.accounts import Accounts

MOST_ROWS = 10_000
_USUAL_ROWS = 1_000
_CURSOR = re.compile(r"(?:[0-9]{1,19}-[0-9]{1,19})?")
_FORMS: tuple[Form, ...] = ("jsonl", "csv")
_MEDIA_TYPES: dict[Form, bytes] = {"jsonl": b"application/x-ndjson", "csv": b"text/csv; charset=utf-8"}
_PRIVATE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_Choice = TypeVar("_Choice", bound=str)


class LedgerEndpoint:
    """For administrators. All raise Unauthenticated or Forbidden for others, and AccountsUnavailable without Redis.

    The sums are kept and only what is new is read; the first question after a start reads the whole ledger: 16 to 18 s
    for a million rows, in which other requests of its worker have their turn every some 10 ms.
    """

    def __init__(self, accounts: Accounts, clock: Clock, *, keep_days: int) -> None:
        """``keep_days``: how long the ledger keeps its rows; sums are kept as long."""
        self._accounts = accounts
        self._clock = clock
        self._keep = timedelta(days=keep_days)
        self._totals = Totals()
        self._reading = asyncio.Lock()

    async def rows(self, exchange: Exchange) -> None:
        """``?after=&limit=&format=jsonl|csv&attempts=true|false``: rows after a cursor, at most 10,000.

        The header ``x-genkan-cursor`` is the cursor to go on after, ``x-genkan-rows`` how many rows were read: 0 is the
        end. Replies one after the other are one file, so only the first of a CSV has the names of its columns.
        """
        require_admin(exchange)
        values = exchange.query_values("after", "limit", "format", "attempts")
        after, limit = _cursor(values), _limit(values)
        form = _one_of(values, "format", _FORMS, "jsonl")
        export = LedgerExport(form, attempts=_one_of(values, "attempts", ("false", "true"), "false") == "true")
        lines, cursor, count = [b"" if after else export.head], after, 0
        try:
            async for page in ledger_pages(self._accounts, after, at_most=limit):
                lines += [export.lines(raw) for _, raw in page]
                cursor, count = page[-1][0], count + len(page)
        except StoreError as error:
            raise _unreadable() from error
        told = [(b"x-genkan-cursor", cursor.encode()), (b"x-genkan-rows", b"%d" % count)]
        if export.malformed:
            told.append((b"x-genkan-malformed-rows", b"%d" % export.malformed))
        await exchange.reply(b"".join(lines), media_type=_MEDIA_TYPES[form], headers=_PRIVATE + told)

    async def savings(self, exchange: Exchange) -> None:
        """Tokens and money that prefix caches saved, by model and in all, and since when."""
        require_admin(exchange)
        exchange.query_values()
        await self._reply(exchange, savings)

    async def report(self, exchange: Exchange) -> None:
        """``?by=model|key|tenant|route|day&since=&until=``: cost and savings; days are UTC, both are included."""
        require_admin(exchange)
        values = exchange.query_values("by", "since", "until")
        by, since, until = _one_of(values, "by", BYS, "model"), _day(values, "since"), _day(values, "until")
        await self._reply(exchange, lambda totals: report(totals, by, since=since, until=until))

    async def _reply(self, exchange: Exchange, question: Callable[[Totals], dict[str, Any]]) -> None:
        async with self._reading:  # what is new is counted once, whoever asks
            await self._read_on()
            # In a thread: with keys by the thousand it is a hundred thousand sums.
            answer = await asyncio.to_thread(question, self._totals)
        await exchange.reply(json.dumps(answer).encode(), headers=_PRIVATE)

    async def _read_on(self) -> None:
        try:
            async for page in ledger_pages(self._accounts, self._totals.cursor):
                self._totals.feed(page)
        except StoreError as error:
            raise _unreadable() from error
        self._totals.forget_before((datetime.fromtimestamp(self._clock.unix(), UTC) - self._keep).date())


def _unreadable() -> AccountsUnavailable:
    return AccountsUnavailable("The ledger cannot be read at the moment.")


def _cursor(values: dict[str, str]) -> str:
    after = values.get("after", "")
    if not _CURSOR.fullmatch(after):
        raise InvalidRequest("'after' must be a cursor, as in the header x-genkan-cursor.", param="after")
    return after


def _limit(values: dict[str, str]) -> int:
    text = values.get("limit", str(_USUAL_ROWS))
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MOST_ROWS):
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {MOST_ROWS}.", param="limit")
    return int(text)


def _one_of(values: dict[str, str], name: str, choices: tuple[_Choice, ...], usual: _Choice) -> _Choice:
    given = values.get(name, usual)
    for choice in choices:
        if choice == given:
            return choice
    raise InvalidRequest(f"{name!r} must be one of {', '.join(choices)}; given: {given[:100]!r}.", param=name)


def _day(values: dict[str, str], name: str) -> date | None:
    text = values.get(name)
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:  # other forms of ISO 8601 are not meant
        raise InvalidRequest(f"{name!r} must be a day such as 2026-11-30.", param=name)
    return day
