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
    way: str | None = None  # in which it went on with an answer that another had begun


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
    answered: int | None  # by which attempt, from 1
    tier: str | None = None  # where the answer was stored, if no attempt was made for it
    stored_by: str = ""  # the deployment that had given it
    arm: str | None = None  # of the route's experiment: "control" or "canary"

    @property
    def deployment(self) -> str:
        """That of the attempt that answered, or else of the last; "" if there was none, nor a stored answer."""
        if self.tier is not None:
            return self.stored_by
        return self.attempts[(self.answered or 0) - 1].deployment if self.attempts else ""


def read_row(raw: bytes) -> Row | None:
    """The row in ``raw``, or None if that is not one. Fields that are not known are ignored. About 4 µs."""
    try:
        return _row(orjson.loads(raw))
    except (KeyError, TypeError, ValueError):
        return None


def _row(raw: Any) -> Row:
    name, tenant, key, route, state = raw["id"], raw["tenant"], raw["key"], raw["route"], raw["state"]
    stream, late, estimated = raw.get("stream", False), raw.get("late", False), raw.get("estimated", False)
    arm = raw.get("arm")
    saved, answered = raw.get("saved_nano_usd", 0), raw.get("answered")
    attempts = tuple([_attempt(attempt) for attempt in raw.get("attempts", ())])
    if not (
        type(name) is type(tenant) is type(route) is type(state) is str
        and (key is None or type(key) is str)
        and (arm is None or type(arm) is str)
        and type(stream) is type(late) is type(estimated) is bool
        and type(saved) is int
        and saved >= 0
        and (answered is None or (type(answered) is int and 1 <= answered <= len(attempts)))
    ):
        raise TypeError
    time_s, usage, cost = _time(raw["t"]), _usage(raw["usage"]), _cost(raw["cost_nano_usd"])
    row = Row(name, time_s, tenant, key, route, stream, state, late, usage, estimated, cost, saved, attempts, answered)
    row = row if arm is None else row._replace(arm=arm)
    return row if (stored := raw.get("stored")) is None else _from_store(row, stored)


def _from_store(row: Row, raw: Any) -> Row:
    tier, deployment = raw["tier"], raw["deployment"]
    if not type(tier) is type(deployment) is str:
        raise TypeError
    return row._replace(tier=tier, stored_by=deployment)


def _attempt(raw: Any) -> AttemptRow:
    n, deployment, state, estimated = raw["n"], raw["deployment"], raw["state"], raw.get("estimated", False)
    if (way := raw.get("way")) is not None and type(way) is not str:
        raise TypeError
    if not (type(deployment) is type(state) is str and type(estimated) is bool and type(n) is int and n >= 0):
        raise TypeError
    cost, seconds = _cost(raw["cost_nano_usd"]), _time(raw.get("seconds", 0.0))
    return AttemptRow(n, deployment, state, _usage(raw["usage"]), estimated, cost, seconds, way)


def _usage(raw: Any) -> Usage | None:
    if raw is None:
        return None
    prompt, completion = raw["prompt"], raw["completion"]
    cached, written = raw.get("cached", 0), raw.get("cache_write", 0)
    if not (type(prompt) is type(completion) is type(cached) is type(written) is int):
        raise TypeError
    if prompt < 0 or completion < 0 or cached < 0 or written < 0:
        raise ValueError
    return Usage(prompt, completion, cached, written)


def _cost(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise TypeError
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < _LAST_S:
        raise TypeError
    return float(value)
