"""What is known of an API key. The key itself is known to nobody but its owner."""

from dataclasses import dataclass
from typing import Literal

from genkan.config import BudgetConfig, LimitConfig

Role = Literal["user", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key's record. Times are seconds since 1970."""

    id: str  # public: "key_" and 16 hexadecimal digits
    hint: str  # its last four characters
    tenant: str
    name: str = ""  # for people
    role: Role = "user"
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    models: tuple[str, ...] | None = None  # models and routes it may name; None: all its tenant may
    limits: LimitConfig | None = None  # in place of `limits.key`
    budgets: tuple[BudgetConfig, ...] = ()
