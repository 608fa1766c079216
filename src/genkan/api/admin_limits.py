"""``GET /admin/limits``: every limit and budget, and what is left of it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange
from genkan.errors import AccountsUnavailable, StoreError
from genkan.gateway.money import usd_number
from genkan.store.accounts import Accounts, Line, LineState, Plan, Unit

MOST_GROUPS = 1_000
_LINES_A_CALL = 200
_AT_ONCE = 100  # groups gone through before others have their turn
_KINDS = {"bucket": "token_bucket", "window": "sliding_window", "lease": "concurrent"}
_UNITS = {
    Unit.REQUESTS: "requests",
    Unit.TOKENS: "tokens",
    Unit.BUDGET_TOKENS: "tokens",
    Unit.BUDGET_NANO_USD: "nano_usd",
}
Group = tuple[str, Plan]


class LimitsEndpoint:
    """For administrators."""

    def __init__(self, accounts: Accounts, groups: Callable[[], Iterable[Group]]) -> None:
        """``groups``: each thing that has limits of its own, by name, with its lines. Names of what belongs to a tenant
        are or end with ``tenant NAME``: "tenant acme", "key key_1f of tenant acme"."""
        self._accounts = accounts
        self._groups = groups

    async def get(self, exchange: Exchange) -> None:
        """``?tenant=``: only what belongs to one. At most 1,000 groups; ``truncated`` says that there are more.

        Raises Unauthenticated or Forbidden for who is no admin, AccountsUnavailable without Redis.
        """
        require_admin(exchange)
        groups, truncated = await self._chosen(exchange.query_values("tenant").get("tenant"))
        states = await self._states(dict.fromkeys(line for _, plan in groups for line in plan))
        shown = [_group(name, plan, states) for name, plan in groups]
        answer = orjson.dumps({"groups": shown, "truncated": truncated})
        await exchange.reply(answer, headers=[(b"cache-control", b"no-store")])

    async def _chosen(self, tenant: str | None) -> tuple[list[Group], bool]:
        chosen: list[Group] = []
        for place, group in enumerate(self._groups()):
            if tenant is None or _belongs(group[0], tenant):
                if len(chosen) == MOST_GROUPS:
                    return chosen, True
                chosen.append(group)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return chosen, False

    async def _states(self, lines: Iterable[Line]) -> dict[str, LineState]:
        wanted, states = list(lines), dict[str, LineState]()
        for start in range(0, len(wanted), _LINES_A_CALL):
            part = tuple(wanted[start : start + _LINES_A_CALL])
            try:
                read = await self._accounts.read(part)
            except StoreError as error:
                raise AccountsUnavailable("The limits cannot be read at the moment.") from error
            states.update(zip((line.key for line in part), read, strict=True))
            await asyncio.sleep(0)
        return states


def _belongs(name: str, tenant: str) -> bool:
    own = f"tenant {tenant}"
    return name == own or name.endswith(f" {own}")


def _group(name: str, plan: Sequence[Line], states: dict[str, LineState]) -> dict[str, Any]:
    return {
        "name": name,
        "limits": [_limit(line, states[line.key]) for line in plan if line.kind != "budget"],
        "budgets": [_budget(line, states[line.key]) for line in plan if line.kind == "budget"],
    }


def _limit(line: Line, state: LineState) -> dict[str, Any]:
    """``used`` is what keeps from taking more: of a bucket what has not been refilled yet."""
    most = line.burst if line.kind == "bucket" else line.limit
    shown: dict[str, Any] = {
        "key": line.key,
        "kind": _KINDS[line.kind],
        "unit": _UNITS[line.unit],
        "limit": line.limit,
        "used": most - state.remaining,
        "remaining": state.remaining,
        "reset_s": state.reset_s,
    }
    if line.kind == "bucket":
        shown["burst"] = line.burst
    if line.kind != "lease":
        shown["window_s"] = line.window_s
    return shown


def _budget(line: Line, state: LineState) -> dict[str, Any]:
    """Spent is with what requests that are under way have reserved, and may be more than the limit."""
    _, per, period = line.key.rsplit(":", 2)  # a budget's key names its period
    spent, remaining = line.limit - state.remaining, max(0, state.remaining)
    shown: dict[str, Any] = {"key": line.key, "unit": _UNITS[line.unit], "per": per, "period": period}
    shown |= {"limit": line.limit, "spent": spent, "remaining": remaining}
    if line.unit is Unit.BUDGET_NANO_USD:
        money = {"limit_usd": line.limit, "spent_usd": spent, "remaining_usd": remaining}
        shown |= {name: usd_number(nano_usd) for name, nano_usd in money.items()}
    return shown
