"""Records of API keys as JSON, and what a new key may be asked to be."""

from decimal import Decimal
from typing import Any, Literal, Self

import orjson
from pydantic import Field, ValidationError

from genkan.config import BudgetConfig, LimitConfig
from genkan.config.base import Name, Section
from genkan.config.limits import Budgets
from genkan.gateway.api_key import ApiKey, Role

MOST_AHEAD_S = 100 * 365 * 86_400.0  # beyond it, seconds since 1970 are milliseconds by mistake


class NewKey(Section):
    """What a key is to be. Times are seconds."""

    tenant: Name
    name: str = Field(default="", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="For people.")
    role: Role = "user"
    expires_in_s: float | None = Field(default=None, gt=0, le=MOST_AHEAD_S, allow_inf_nan=False)
    expires_at: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Seconds since 1970.")
    models: list[Name] | None = Field(default=None, max_length=256)
    limits: LimitConfig | None = None
    budgets: Budgets = Field(default=[])


class _Record(Section):
    """An ApiKey with every field, of which none may be unknown: it could be one that takes a right away."""

    id: str
    hint: str
    tenant: str
    name: str
    role: Role
    created_s: float
    expires_s: float | None
    revoked_s: float | None
    models: list[str] | None
    limits: LimitConfig | None
    budgets: list[BudgetConfig]  # as they are: what a new key may not have, an old one keeps

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            hint=key.hint,
            tenant=key.tenant,
            name=key.name,
            role=key.role,
            created_s=key.created_s,
            expires_s=key.expires_s,
            revoked_s=key.revoked_s,
            models=None if key.models is None else list(key.models),
            limits=key.limits,
            budgets=list(key.budgets),
        )


def write_record(key: ApiKey) -> bytes:
    """The record as JSON."""
    return to_json(_Record.of(key).model_dump())


def read_record(record: bytes) -> ApiKey:
    """The key of which ``record`` is. Raises ValueError for anything that `write_record` did not write."""
    try:
        read = _Record.model_validate_json(record)
    except ValidationError as error:
        raise ValueError(f"not the record of an API key: {error.errors(include_input=False)[0]['msg']}") from None
    return ApiKey(
        id=read.id,
        hint=read.hint,
        tenant=read.tenant,
        name=read.name,
        role=read.role,
        created_s=read.created_s,
        expires_s=read.expires_s,
        revoked_s=read.revoked_s,
        models=None if read.models is None else tuple(read.models),
        limits=read.limits,
        budgets=tuple(read.budgets),
    )


def ended_s(key: ApiKey) -> float | None:
    """When it was, or will be, of no more use; None: never."""
    if key.revoked_s is None or key.expires_s is None:
        return key.revoked_s if key.expires_s is None else key.expires_s
    return min(key.revoked_s, key.expires_s)


def to_json(content: object) -> bytes:
    """JSON, money as numbers: a double holds its 13 digits, and reading them back gives the same."""
    return orjson.dumps(content, default=_number)


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError


def shown(key: ApiKey, now_s: float) -> dict[str, Any]:
    """The record for people and programs of theirs, for `to_json`."""
    return {
        "id": key.id,
        "object": "api_key",
        "hint": f"…{key.hint}",
        "tenant": key.tenant,
        "name": key.name,
        "role": key.role,
        "state": state(key, now_s),
        "created_at": key.created_s,
        "expires_at": key.expires_s,
        "revoked_at": key.revoked_s,
        "models": key.models,
        "limits": None if key.limits is None else key.limits.model_dump(exclude_none=True),
        "budgets": [budget.model_dump(exclude_none=True) for budget in key.budgets],
    }


def state(key: ApiKey, now_s: float) -> Literal["active", "revoked", "expired"]:
    if key.revoked_s is not None:
        return "revoked"
    return "expired" if key.expires_s is not None and key.expires_s <= now_s else "active"
