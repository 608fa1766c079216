"""Rows of the ledger for other programs, as JSONL or CSV. Pure.

Exactly once: every row has a cursor, and who goes on after the cursor of the last row it kept gets each row once,
however often it was interrupted. A request that was lost and then found has two rows, the second with ``late``: whoever
keeps an export keeps the last of an id. The same holds for attempts, whose ids are the request's, a dot and a number.
"""

from datetime import UTC, datetime
from typing import Literal

import orjson

from genkan.gateway.csv_line import csv_line
from genkan.gateway.ledger_row import AttemptRow, Row, read_row
from genkan.gateway.money import usd_text
from genkan.wire.usage import Usage

Form = Literal["jsonl", "csv"]
Cell = str | int | None

_REQUEST = ("id", "time", "tenant", "key", "route", "stream", "state", "late")
_ATTEMPT = ("id", "request", "n", "time", "tenant", "key", "route", "deployment", "state", "late", "seconds")
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "estimated", "cost_usd")
REQUEST_COLUMNS = (*_REQUEST, *_TOKENS, "saved_usd", "attempts", "deployments", "stored", "arm")
ATTEMPT_COLUMNS = (*_ATTEMPT, *_TOKENS, "way")


class LedgerExport:
    """Writes rows one after the other: requests, or one line for each of their attempts."""

    def __init__(self, form: Form, *, attempts: bool = False) -> None:
        self._write = _WRITERS[form, attempts]
        self.head = csv_line(ATTEMPT_COLUMNS if attempts else REQUEST_COLUMNS) if form == "csv" else b""
        self.malformed = 0  # rows that were left out because they are none

    def lines(self, raw: bytes) -> bytes:
        """The lines for one row, each with its line feed; none for what is not a row."""
        row = read_row(raw)
        if row is None:
            self.malformed += 1
            return b""
        return self._write(row, raw)


def attempt_id(row: Row, attempt: AttemptRow) -> str:
    """What the upstream saw as ``x-client-request-id``."""
    return f"{row.id}.{attempt.n}"


def _json_request(row: Row, raw: bytes) -> bytes:
    del row
    return (orjson.dumps(orjson.loads(raw)) if b"\n" in raw or b"\r" in raw else raw) + b"\n"


def _json_attempts(row: Row, raw: bytes) -> bytes:
    shared = {"request": row.id, "t": row.t_s, "tenant": row.tenant, "key": row.key, "route": row.route}
    written = [
        {"id": attempt_id(row, read), **shared, **given, **({"late": True} if row.late else {})}
        for read, given in zip(row.attempts, orjson.loads(raw).get("attempts", ()), strict=True)
    ]
    return b"".join(orjson.dumps(line) + b"\n" for line in written)


def _csv_request(row: Row, raw: bytes) -> bytes:
    del raw
    named: tuple[Cell, ...] = (row.id, _time(row), row.tenant, row.key, row.route, _flag(row.stream), row.state)
    tokens = _tokens(row.usage, estimated=row.estimated, cost_nano_usd=row.cost_nano_usd)
    deployments = " ".join(attempt.deployment for attempt in row.attempts) or row.deployment
    saved = usd_text(row.saved_nano_usd)
    return csv_line((*named, _flag(row.late), *tokens, saved, len(row.attempts), deployments, row.tier, row.arm))


def _csv_attempts(row: Row, raw: bytes) -> bytes:
    del raw
    return b"".join(csv_line(_attempt_cells(row, attempt)) for attempt in row.attempts)


def _attempt_cells(row: Row, attempt: AttemptRow) -> tuple[Cell, ...]:
    ids: tuple[Cell, ...] = (attempt_id(row, attempt), row.id, attempt.n)
    whose: tuple[Cell, ...] = (_time(row), row.tenant, row.key, row.route)
    how: tuple[Cell, ...] = (attempt.deployment, attempt.state, _flag(row.late), f"{attempt.seconds:.6f}")
    tokens = _tokens(attempt.usage, estimated=attempt.estimated, cost_nano_usd=attempt.cost_nano_usd)
    return (*ids, *whose, *how, *tokens, attempt.way)


def _tokens(usage: Usage | None, *, estimated: bool, cost_nano_usd: int | None) -> tuple[Cell, ...]:
    counts: tuple[Cell, ...] = (None,) * 4
    if usage is not None:
        counts = (usage.prompt, usage.completion, usage.cached, usage.cache_write)
    return (*counts, _flag(estimated), None if cost_nano_usd is None else usd_text(cost_nano_usd))


def _time(row: Row) -> str:
    return datetime.fromtimestamp(row.t_s, UTC).isoformat(timespec="milliseconds")


def _flag(value: bool) -> str:
    return "true" if value else "false"


_WRITERS = {
    ("jsonl", False): _json_request,
    ("jsonl", True): _json_attempts,
    ("csv", False): _csv_request,
    ("csv", True): _csv_attempts,
}
