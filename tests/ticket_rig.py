"""Requests of one tenant to two upstreams, and what is left of its limits and budgets."""

from typing import Any

from accounts_at_hand import AccountsAtHand
from responders import ScriptedResponder
from scripted_upstreams import ScriptedUpstream, ServedBy

from genkan.config import Config
from genkan.gateway.ledger_row import Row
from genkan.gateway.pipeline import Pipeline
from genkan.store.accounts import Unit
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest
from genkan.wire.usage import Usage

TOKENS_LIMIT, BUDGET_TOKENS = 100_000, 1_000_000
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in ("up-1", "up-2")],
        "models": [
            {"name": "big", "upstream": "up-1", "max_output_tokens": 100},
            {"name": "small", "upstream": "up-2", "max_output_tokens": 100},
            {"name": "unpriced", "upstream": "up-1"},
        ],
        "routes": [
            {
                "alias": "nick",
                "chain": ["big", "small"],
                "retry": {"max_retries": 0},
                "fallback_on": ["error", "context_too_long", "content_filter"],
            }
        ],
        "limits": {
            "tenant": {
                "requests": {"limit": 100, "algorithm": "sliding_window"},
                "tokens": {"limit": TOKENS_LIMIT, "algorithm": "sliding_window"},
                "concurrent": 5,
            }
        },
        "tenants": [{"name": "acme", "budgets": [{"per": "total", "usd": 1, "tokens": BUDGET_TOKENS}]}],
        "prices": {
            "models": [
                {"model": "big", "input": 2.0, "output": 8.0, "cached_input": 0.5},
                {"model": "small", "input": 0.1, "output": 0.4},
            ]
        },
    }
)
#: Of USAGE, at the price of each model.
BIG_NANO, SMALL_NANO = 3 * 2000 + 2 * 8000, 3 * 100 + 2 * 400
BILLED = Usage(3, 2)
CALLER = Caller("req_1", "acme", "key_1")


def ask(*, stream: bool = False, **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "Hi"}]
    return ChatRequest.from_object({"model": "nick", "messages": messages, "stream": stream, **fields})


class Rig(AccountsAtHand):
    """Two upstreams, and what is left of the tenant's limits and budgets."""

    def __init__(self, config: Config = CONFIG) -> None:
        super().__init__(config)

    def to(self, first: Any, second: Any = None) -> Pipeline:
        return self.pipeline(first, second or ServedBy(ScriptedResponder(), "up-2"))

    def scripted(self, name: str, *turns: Any) -> ScriptedUpstream:
        return ScriptedUpstream(name, self.clock, *turns)

    async def used(self) -> dict[str, int]:
        """What was taken of each line."""
        await self.settled()
        plan = self.policies.of(CALLER, "nick", self.clock.unix()).plan
        states = await self.accounts.read(plan)
        names = {
            Unit.REQUESTS: "requests",
            Unit.TOKENS: "tokens",
            Unit.BUDGET_TOKENS: "budget_tokens",
            Unit.BUDGET_NANO_USD: "nano_usd",
        }
        used: dict[str, int] = {}
        for line, state in zip(plan, states, strict=True):
            name = "leases" if line.kind == "lease" else names[line.unit]
            used[name] = line.limit - state.remaining
        return used

    async def row(self) -> Row:
        (row,) = await self.rows()
        return row


def served(name: str = "up-1", *events: Any, **how: Any) -> ServedBy:
    return ServedBy(ScriptedResponder(list(events) or None, **how), name)


def settled_as(usage: Usage | None, nano_usd: int, *, rated: int | None = None) -> dict[str, int]:
    total = usage.total if usage else 0
    rated = total if rated is None else rated
    return {"requests": 1, "leases": 0, "tokens": rated, "budget_tokens": total, "nano_usd": nano_usd}


NOTHING = settled_as(None, 0)
