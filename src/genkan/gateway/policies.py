"""Which limits and budgets apply to whom: configuration → plans, made once and kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from genkan.config import BudgetConfig, Config, LimitConfig, RateConfig
from genkan.gateway.api_key import ApiKey
from genkan.store.accounts import Line, LineState, Plan, Unit
from genkan.wire.caller import LOCAL_TENANT, Caller

_MAX_KEPT = 10_000
_DAY_S = 86_400.0
#: How long a budget's count is kept: longer than its period, so that a late settlement still finds it.
_KEPT_S = {"day": 3 * _DAY_S, "month": 62 * _DAY_S, "total": 36_500 * _DAY_S}
_NANO = 10**9
_FEW = 32  # places; a client soon has so many requests under way


@dataclass(frozen=True, slots=True)
class Warn:
    """When an answer is to carry a warning."""

    line: int  # its place in the plan
    at_most: int  # so much remains
    text: str  # which budget, for the header


class Scarcity:
    """Whether what a request gives back may be all that its client lacks for the next: money, or a place among few."""

    __slots__ = ("is_now",)

    def __init__(self) -> None:
        self.is_now = True


@dataclass(frozen=True, slots=True)
class Policy:
    """What applies to one caller's requests to one route. Made once, so what follows from the plan is worked out."""

    plan: Plan
    warnings: tuple[Warn, ...] = ()
    has_budgets: bool = field(init=False)
    without_budgets: Plan = field(init=False)
    most_tokens: int | None = field(init=False)  # that its limits on tokens let anyone take at once
    plenty: tuple[tuple[int, int], ...] = field(init=False)  # of each lease its place, and how many left are plenty
    scarcity: Scarcity = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        without_budgets = tuple(line for line in self.plan if line.kind != "budget")
        object.__setattr__(self, "without_budgets", without_budgets)
        object.__setattr__(self, "has_budgets", len(without_budgets) < len(self.plan))
        object.__setattr__(self, "most_tokens", most_tokens_at_once(self.plan))
        leases = ((place, max(line.limit // 2, _FEW)) for place, line in enumerate(self.plan) if line.kind == "lease")
        object.__setattr__(self, "plenty", tuple(leases))
        object.__setattr__(self, "scarcity", Scarcity())

    def note(self, states: Sequence[LineState]) -> None:
        """``states`` are the latest of the plan's lines that this worker was told, or none if it was told nothing."""
        self.scarcity.is_now = (
            self.has_budgets
            or len(states) != len(self.plan)
            or any(states[place].remaining < plenty for place, plenty in self.plenty)
        )


class Policies:
    """Finds the policy of a request. Cost: a dict lookup, once it was made."""

    def __init__(self, config: Config, key_by_id: Callable[[str], ApiKey | None]) -> None:
        self._limits = config.limits
        self._tenants = {tenant.name: tenant for tenant in config.tenants}
        self._first_model = {model.name: model.name for model in config.models}
        self._first_model |= {route.alias: route.chain[0] for route in config.routes}
        self._key_by_id = key_by_id
        self._kept: dict[tuple[str, str | None, str], tuple[ApiKey | None, Policy]] = {}
        self._day_s = (0.0, 0.0)  # from when to when those hold: budgets of another day count elsewhere

    def of(self, caller: Caller, route: str, now_unix_s: float) -> Policy:
        """The policy of ``caller`` for ``route``, a route's alias or a model's name."""
        begins_s, ends_s = self._day_s
        if not begins_s <= now_unix_s < ends_s or len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
            begins_s = now_unix_s // _DAY_S * _DAY_S
            self._day_s = begins_s, begins_s + _DAY_S
        key = self._key_by_id(caller.key_id) if caller.key_id is not None else None
        name = caller.tenant, caller.key_id, route
        found = self._kept.get(name)
        if found is None or found[0] is not key:  # a key's record is another object once it has changed
            found = self._kept[name] = key, self._made(caller.tenant, key, route, now_unix_s)
        return found[1]

    def groups(self, keys: list[ApiKey], now_unix_s: float) -> Iterator[tuple[str, Plan]]:
        """Everything that has limits of its own, by name: what ``GET /admin/limits`` shows."""
        tenants = dict.fromkeys([*self._tenants, *(key.tenant for key in keys)])
        for key in keys:
            yield f"key {key.id} of tenant {key.tenant}", tuple(self._of_key(key, now_unix_s, []))
        for tenant in tenants if keys else {**tenants, LOCAL_TENANT: None}:
            yield f"tenant {tenant}", tuple(self._of_tenant(tenant, now_unix_s, []))
        for model, limits in self._limits.models.items():
            yield f"model {model}", tuple(self._lines(limits, f"m:{model}", f"model '{model}'", is_own=False))
        for alias, limits in self._limits.routes.items():
            yield f"route {alias}", tuple(self._lines(limits, f"r:{alias}", f"route '{alias}'", is_own=False))

    def _made(self, tenant: str, key: ApiKey | None, route: str, now_unix_s: float) -> Policy:
        plan: list[Line] = []
        warnings: list[Warn] = []
        if key is not None:
            plan += self._of_key(key, now_unix_s, warnings)
        plan += self._of_tenant(tenant, now_unix_s, warnings, len(plan))
        model = self._first_model.get(route, route)
        if (shared := self._limits.models.get(model)) is not None:
            plan += self._lines(shared, f"m:{model}", f"model '{model}'", is_own=False)
        if (shared := self._limits.routes.get(route)) is not None:
            plan += self._lines(shared, f"r:{route}", f"route '{route}'", is_own=False)
        return Policy(tuple(plan), tuple(warnings))

    def _lines(self, limits: LimitConfig, key: str, scope: str, *, is_own: bool = True) -> Iterator[Line]:
        return lines(limits, key, scope, is_own=is_own, lease_s=self._limits.lease_s)

    def _of_key(self, key: ApiKey, now_unix_s: float, warnings: list[Warn]) -> list[Line]:
        limits = key.limits if key.limits is not None else self._limits.key
        plan = list(self._lines(limits, f"k:{key.id}", "API key"))
        return plan + _budget_lines(key.budgets, f"k:{key.id}", "API key", now_unix_s, warnings, len(plan))

    def _of_tenant(self, name: str, now_unix_s: float, warnings: list[Warn], before: int = 0) -> list[Line]:
        tenant = self._tenants.get(name)
        own = tenant.limits if tenant is not None else None
        scope = f"tenant '{name}'"
        plan = list(self._lines(own if own is not None else self._limits.tenant, f"t:{name}", scope))
        budgets = tenant.budgets if tenant is not None else ()
        return plan + _budget_lines(budgets, f"t:{name}", scope, now_unix_s, warnings, before + len(plan))


def most_tokens_at_once(plan: Plan) -> int | None:
    """The most that the limits on tokens let anyone take at once; None without such a limit."""
    held = [line.burst if line.kind == "bucket" else line.limit for line in plan if line.unit is Unit.TOKENS]
    return min(held, default=None)


def fitted(guess: int, prompt_tokens: int, most: int | None) -> int:
    """``guess``, but no more than ``most``, what limits let anyone take at once, unless the prompt alone is more.

    How long an answer will be is only guessed, and a guess is no reason to say that a request can never fit.
    """
    return guess if most is None or guess <= most else max(most, prompt_tokens)


def lines(limits: LimitConfig, key: str, scope: str, *, is_own: bool = True, lease_s: float) -> Iterator[Line]:
    """The lines of ``limits``; ``key`` begins their keys."""
    if limits.requests is not None:
        yield _rate_line(limits.requests, f"{key}:requests", Unit.REQUESTS, scope, is_own=is_own)
    if limits.tokens is not None:
        yield _rate_line(limits.tokens, f"{key}:tokens", Unit.TOKENS, scope, is_own=is_own)
    if limits.concurrent is not None:
        yield Line(f"{key}:concurrent", "lease", Unit.REQUESTS, limits.concurrent, lease_s, scope=scope, is_own=is_own)


def _rate_line(rate: RateConfig, key: str, unit: Unit, scope: str, *, is_own: bool) -> Line:
    if rate.algorithm == "sliding_window":
        return Line(f"{key}:window", "window", unit, rate.limit, rate.window_s, scope=scope, is_own=is_own)
    burst = rate.burst if rate.burst is not None else rate.limit
    return Line(f"{key}:bucket", "bucket", unit, rate.limit, rate.window_s, burst, scope=scope, is_own=is_own)


def _budget_lines(
    budgets: list[BudgetConfig] | tuple[BudgetConfig, ...],
    key: str,
    scope: str,
    now_unix_s: float,
    warnings: list[Warn],
    before: int,
) -> list[Line]:
    plan: list[Line] = []
    for budget in budgets:
        period = _period(budget.per, now_unix_s)
        for unit, limit in _amounts(budget):
            line = Line(
                f"{key}:{'usd' if unit is Unit.BUDGET_NANO_USD else 'budget-tokens'}:{budget.per}:{period}",
                "budget", unit, limit, _KEPT_S[budget.per], scope=scope,
            )  # fmt: skip
            name = f"{scope} {'usd' if unit is Unit.BUDGET_NANO_USD else 'tokens'} per {budget.per}"
            warnings.append(Warn(before + len(plan), limit - int(limit * budget.warn_at), name))
            plan.append(line)
    return plan


def _amounts(budget: BudgetConfig) -> Iterator[tuple[Unit, int]]:
    if budget.usd is not None:
        yield Unit.BUDGET_NANO_USD, int(budget.usd * _NANO)
    if budget.tokens is not None:
        yield Unit.BUDGET_TOKENS, budget.tokens


def _period(per: str, now_unix_s: float) -> str:
    if per == "total":
        return "all"
    return datetime.fromtimestamp(now_unix_s, UTC).strftime("%Y-%m-%d" if per == "day" else "%Y-%m")
