"""A row of the ledger, read. `ticket.py` writes them; here is what readers may rely on.

A request is one row, written when it has ended. If its worker died, a row with the state ``lost`` stands for it; should
its true end come to light after all, that is a second row of the same id with ``late``, and it holds in place of the
first: of several rows of an id the last one counts.
"""

from typing import Any, NamedTuple

import orjson

from genkan.wire.usage import Usage

LOST = "lost"
#: States that are not an error of the request's.
NO_ERROR = frozenset({"ok", "client_gone", LOST})
_LAST_S = 253_402_300_799  # of the year 9999


class AttemptRow(NamedTuple):
    """One attempt at an upstream: what it takes from us."""

    n: int  # from 1
    deployment: str  # model@upstream
    state: str  # "ok", "client_gone", "lost" or an error's code
    usage: Usage | None
    estimated: bool  # counted by us
    cost_nano_usd: int | None
    seconds: float


class Row(NamedTuple):
    """One request: what its client is billed, and its attempts."""

    id: str
    t_s: float  # its end, seconds since 1970
    tenant: str
    key: str | None
    route: str
    stream: bool
    state: str  # "ok", "client_gone", "lost" or an error's code
    late: bool
    usage: Usage | None
    estimated: bool
    cost_nano_usd: int | None
    saved_nano_usd: int
    attempts: tuple[AttemptRow, ...]

    @property
    def deployment(self) -> str:
        """That of the attempt that answered, or else of the last; "" if there was none."""
        return self.attempts[-1].deployment if self.attempts else ""


def read_row(raw: bytes) -> Row | None:
    """The row in ``raw``, or None if that is not one. Fields that are not known are ignored. About 3 µs."""
    try:
        return _row(orjson.loads(raw))
    except (KeyError, TypeError, ValueError):
        return None


def _row(raw: Any) -> Row:
    return Row(
        id=_text(raw["id"]),
        t_s=_time(raw["t"]),
        tenant=_text(raw["tenant"]),
        key=None if raw["key"] is None else _text(raw["key"]),
        route=_text(raw["route"]),
        stream=_flag(raw.get("stream", False)),
        state=_text(raw["state"]),
        late=_flag(raw.get("late", False)),
        usage=_usage(raw["usage"]),
        estimated=_flag(raw.get("estimated", False)),
        cost_nano_usd=_whole_or_none(raw["cost_nano_usd"]),
        saved_nano_usd=_whole(raw.get("saved_nano_usd", 0)),
        attempts=tuple([_attempt(attempt) for attempt in raw.get("attempts", ())]),
    )


def _attempt(raw: Any) -> AttemptRow:
    return AttemptRow(
        n=_whole(raw["n"]),
        deployment=_text(raw["deployment"]),
        state=_text(raw["state"]),
        usage=_usage(raw["usage"]),
        estimated=_flag(raw.get("estimated", False)),
        cost_nano_usd=_whole_or_none(raw["cost_nano_usd"]),
        seconds=_time(raw.get("seconds", 0.0)),
    )


def _usage(raw: Any) -> Usage | None:
    if raw is None:
        return None
    prompt, completion = _whole(raw["prompt"]), _whole(raw["completion"])
    return Usage(prompt, completion, _whole(raw.get("cached", 0)), _whole(raw.get("cache_write", 0)))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < _LAST_S:
        raise TypeError
    return float(value)
