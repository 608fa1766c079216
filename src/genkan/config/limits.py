"""The configuration of limits, budgets, tenants and prices."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from genkan.config.base import Name, Seconds, Section

Algorithm = Literal["token_bucket", "sliding_window"]
Period = Literal["day", "month", "total"]


def _exact(value: Any) -> Any:
    """A number as it was written: 0.42 is 42/100 and not the nearest binary fraction."""
    return Decimal(str(value)) if type(value) in (int, float) else value


Money = Annotated[
    Decimal,
    BeforeValidator(_exact),
    PlainSerializer(float, return_type=float, when_used="json"),  # six decimals up to a million: exact as shown
    Field(ge=0, le=1_000_000, decimal_places=6, allow_inf_nan=False, strict=True),
]


class RateConfig(Section):
    """So much in a window of time."""

    limit: int = Field(ge=1, le=10**12, description="So much")
    window_s: Seconds = Field(default=60.0, description="in so many seconds.")
    burst: int | None = Field(
        default=None,
        ge=1,
        le=10**12,
        description="Of a token bucket: how much at once after a pause; `limit` if not given.",
    )
    algorithm: Algorithm = Field(
        default="token_bucket",
        description="`token_bucket` refills evenly; `sliding_window` never lets more than `limit` into any window.",
    )

    @field_validator("algorithm")
    @classmethod
    def _has_no_burst(cls, algorithm: Algorithm, info: ValidationInfo) -> Algorithm:
        if algorithm == "sliding_window" and info.data.get("burst") is not None:
            raise ValueError("a sliding window has no burst: its limit is what may come at once")
        return algorithm


class LimitConfig(Section):
    """What may be asked, all of it together."""

    requests: RateConfig | None = None
    tokens: RateConfig | None = Field(default=None, description="Of prompts and answers together.")
    concurrent: int | None = Field(default=None, ge=1, le=10**6, description="Requests at the same time.")


class BudgetConfig(Section):
    """What may be spent in a calendar period (UTC)."""

    per: Period
    usd: Money | None = None
    tokens: int | None = Field(default=None, ge=1, le=10**15, validate_default=True)
    warn_at: float = Field(
        default=0.8, gt=0, le=1, allow_inf_nan=False, description="Share of it from which on answers carry a warning."
    )

    @field_validator("tokens")
    @classmethod
    def _or_usd(cls, tokens: int | None, info: ValidationInfo) -> int | None:
        if tokens is None and info.data.get("usd") is None:
            raise ValueError("a budget is of 'usd', of 'tokens', or of both")
        return tokens


def _each_once(budgets: list[BudgetConfig]) -> list[BudgetConfig]:
    """Two of the same period and unit would be one account that every request is charged to twice."""
    seen = set()
    for budget in budgets:
        for unit in ("usd", "tokens"):
            if getattr(budget, unit) is None:
                continue
            if (budget.per, unit) in seen:
                raise ValueError(f"more than one budget per {budget.per} in {unit}")
            seen.add((budget.per, unit))
    return budgets


Budgets = Annotated[list[BudgetConfig], Field(max_length=8), AfterValidator(_each_once)]


class LimitsConfig(Section):
    """Limits for everybody. A tenant or a key may have its own in place of ``tenant`` and ``key``."""

    key: LimitConfig = Field(default=LimitConfig(), description="Of each API key.")
    tenant: LimitConfig = Field(default=LimitConfig(), description="Of each tenant, over all its keys.")
    models: dict[Name, LimitConfig] = Field(default={}, description="Of a model, over all its callers.")
    routes: dict[Name, LimitConfig] = Field(default={}, description="Of a route, over all its callers.")
    lease_s: Seconds = Field(default=30.0, description="How long what a worker holds stays held after the worker died.")


class TenantConfig(Section):
    """A group of keys with limits, budgets and rights in common."""

    name: Name
    limits: LimitConfig | None = Field(default=None, description="In place of `limits.tenant`.")
    budgets: Budgets = Field(default=[], description="At most one for each period and unit.")
    models: list[Name] | None = Field(
        default=None, description="Models and routes its keys may name; all if not given."
    )


class PriceConfig(Section):
    """What a model costs, in money per million tokens."""

    model: Name
    aliases: list[Name] = Field(default=[], description="Other names of the same model.")
    upstream: Name | None = Field(default=None, description="Only there; else wherever no such price is given.")
    input: Money | None = None
    output: Money | None = None
    cached_input: Money | None = Field(default=None, description="Prompt tokens read from a cache; else as `input`.")
    cache_write: Money | None = Field(default=None, description="Prompt tokens written to a cache; else as `input`.")
    flat: Money | None = Field(default=None, description="For every token alike, where the split is not known.")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    since: date | None = Field(default=None, strict=False, description="When this was the price.")


class PricesConfig(Section):
    """The price list."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # In the file it may also be the path of another one, which is read before anything is checked.
        return {"anyOf": [handler(schema), {"type": "string"}]}

    models: list[PriceConfig] = Field(default_factory=list)
    usd_per: dict[str, Money] = Field(default={}, description="Dollars for one unit of each other currency.")
