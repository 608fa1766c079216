"""Who is let in, who is told to come back and when, and what the client is shown of it."""

import asyncio
from typing import Any

import pytest
from accounts_at_hand import AccountsAtHand
from responders import ScriptedResponder
from scripted_upstreams import ServedBy, VirtualClock
from unsteady_accounts import UnsteadyAccounts

from genkan.config import Config
from genkan.errors import AccountsUnavailable, BudgetSpent, InvalidRequest, ModelNotFound, RateLimited
from genkan.gateway.api_key import ApiKey
from genkan.gateway.estimate import Estimator, Size
from genkan.gateway.policies import fitted, most_tokens_at_once
from genkan.store.accounts import Line, Unit
from genkan.upstream.base import Answer
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

pytestmark = pytest.mark.anyio
DAY_S = 86_400.0


class Rig(AccountsAtHand):
    """One model, `m`, behind the route `r`, at 1 and 2 dollars a million tokens; an id for each request."""

    def __init__(self, *faults: str, keys: tuple[ApiKey, ...] = (), **sections: Any) -> None:
        config = Config.model_validate(
            {
                "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
                "models": [{"name": "m", "upstream": "u", "max_output_tokens": 100}],
                "routes": [{"alias": "r", "chain": ["m"]}],
                "prices": {"models": [{"model": "m", "input": 1.0, "output": 2.0}]},
                **sections,
            }
        )
        clock = VirtualClock()
        super().__init__(config, clock, keys=keys, accounts=UnsteadyAccounts(clock, *faults) if faults else None)
        self.upstream = ServedBy(ScriptedResponder(), "u")
        self._pipeline = self.pipeline(self.upstream)
        self._number = 0

    async def ask(
        self,
        *,
        tenant: str = "acme",
        key_id: str | None = None,
        request: GenerationRequest | None = None,
        **fields: Any,
    ) -> Answer:
        self._number += 1
        raw = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10, **fields}
        caller = Caller(f"req_{self._number}", tenant, key_id)
        return await self._pipeline.respond(request or ChatRequest.from_object(raw), caller)

    async def hold(self, **fields: Any) -> Answer:
        """An answer that has begun and does not end."""
        return await self.ask(stream=True, **fields)


def tenant_of(**limits: Any) -> dict[str, Any]:
    return {"limits": {"tenant": limits}}


def budget(**budget: Any) -> dict[str, Any]:
    return {"tenants": [{"name": "acme", "budgets": [{"per": "day", **budget}]}]}


# --- Limits ---


async def test_a_limit_on_requests_says_when_to_come_back_and_lets_in_then() -> None:
    async with Rig(**tenant_of(requests={"limit": 2, "window_s": 3600.0})) as rig:
        for _ in range(2):
            await rig.ask()
        with pytest.raises(RateLimited) as caught:
            await rig.ask()
        error = caught.value
        assert (error.status, error.type, error.code) == (429, "requests", "rate_limit_exceeded")
        assert error.message == (
            "Rate limit reached for the tenant 'acme': 2 requests per 3600 s, this request takes 1. "
            "Please try again in 30m0s."
        )
        assert error.retry_after_s == pytest.approx(1800.0)
        assert dict(error.headers) == {
            b"x-ratelimit-limit-requests": b"2",
            b"x-ratelimit-remaining-requests": b"0",
            b"x-ratelimit-reset-requests": b"1h0m0s",
        }
        assert rig.told.denials == [("bucket", "requests", "tenant")]
        assert len(rig.upstream.calls) == 2
        rig.clock.now_s += 1800.0
        await rig.ask()
        assert len(await rig.rows()) == 3  # a denial has none


async def test_a_limit_on_tokens_counts_a_guess_and_then_what_it_was() -> None:
    async with Rig(**tenant_of(tokens={"limit": 20})) as rig:
        answer = await rig.hold()
        assert dict(answer.headers)[b"x-ratelimit-remaining-tokens"] == b"6"  # 4 guessed and 10 allowed
        with pytest.raises(RateLimited) as caught:
            await rig.ask()
        assert caught.value.type == "tokens"
        await answer.aclose()
        await rig.settled()
        again = await rig.ask()
        assert dict(again.headers)[b"x-ratelimit-remaining-tokens"] == b"2"  # 4 of who left, and 14
        await rig.settled()


async def test_a_limit_on_concurrent_requests_gives_back_at_the_end() -> None:
    async with Rig(**tenant_of(concurrent=1)) as rig:
        answer = await rig.hold()
        with pytest.raises(RateLimited, match="has its limit of 1 concurrent requests in work") as caught:
            await rig.ask()
        assert caught.value.retry_after_s == 1.0
        assert rig.told.denials == [("lease", "requests", "tenant")]
        await answer.aclose()
        await rig.settled()
        await rig.ask()


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window"])
async def test_what_can_never_fit_is_the_requests_fault_and_says_so_at_once(algorithm: str) -> None:
    limits = tenant_of(tokens={"limit": 100, "algorithm": algorithm}, requests={"limit": 1})
    async with Rig(**limits) as rig:
        await rig.ask()
        with pytest.raises(InvalidRequest) as caught:  # although it would have to wait for its turn as well
            await rig.ask(messages=[{"role": "user", "content": "x" * 4000}])
    error = caught.value
    assert (error.status, error.code, error.param, error.should_retry) == (
        400, "request_exceeds_limit", "max_tokens", False,
    )  # fmt: skip
    assert error.retry_after_s is None
    assert "the limit of the tenant 'acme' is 100 at once: it can never fit" in error.message


async def test_each_of_several_prompts_has_its_answers() -> None:
    async with Rig(**tenant_of(tokens={"limit": 1000})) as rig:
        raw = {"model": "m", "prompt": ["a", "b", "c"], "n": 2, "max_tokens": 50, "stream": True}
        answer = await rig.ask(request=CompletionRequest.from_object(raw))
        assert int(dict(answer.headers)[b"x-ratelimit-remaining-tokens"]) < 1000 - 3 * 2 * 50
        await answer.aclose()


async def test_one_denial_takes_from_no_other_limit() -> None:
    limits = {"tenant": {"requests": {"limit": 10}}, "models": {"m": {"concurrent": 1}}}
    async with Rig(limits=limits) as rig:
        answer = await rig.hold()
        for _ in range(3):
            with pytest.raises(RateLimited, match="model 'm'"):
                await rig.ask()
        assert [denial[2] for denial in rig.told.denials] == ["model"] * 3
        await answer.aclose()
        await rig.settled()
        again = await rig.ask()
        assert dict(again.headers)[b"x-ratelimit-remaining-requests"] == b"8"


async def test_a_limit_of_a_route_is_not_one_of_its_model() -> None:
    async with Rig(limits={"routes": {"r": {"requests": {"limit": 1}}}}) as rig:
        await rig.ask(model="r")
        with pytest.raises(RateLimited, match="route 'r'"):
            await rig.ask(model="r")
        await rig.ask(model="m")


async def test_a_hundred_at_once_get_exactly_what_there_is() -> None:
    async with Rig(**tenant_of(requests={"limit": 7, "algorithm": "sliding_window"})) as rig:
        found = await asyncio.gather(*(rig.ask() for _ in range(100)), return_exceptions=True)
        assert sum(isinstance(one, Answer) for one in found) == 7
        assert sum(isinstance(one, RateLimited) for one in found) == 93


async def test_a_model_that_is_not_the_callers_draws_on_nothing() -> None:
    async with Rig(**tenant_of(requests={"limit": 5})) as rig:
        caller = Caller("req_x", "acme", models=frozenset({"other"}))
        with pytest.raises(ModelNotFound):
            await rig._pipeline.respond(
                ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "x"}]}), caller
            )
        assert dict((await rig.ask()).headers)[b"x-ratelimit-remaining-requests"] == b"4"


# --- Budgets ---


async def test_a_budget_that_does_not_cover_the_most_refuses() -> None:
    async with Rig(**budget(usd=0.0001)) as rig:
        with pytest.raises(BudgetSpent) as caught:
            await rig.ask()
        error = caught.value
        assert (error.status, error.type, error.code, error.should_retry) == (
            429, "insufficient_quota", "insufficient_quota", False,
        )  # fmt: skip
        assert error.message == (
            "What is left of the budget of tenant 'acme' does not cover this request, which may take up to $0.000102."
        )
        assert rig.told.denials == [("budget", "budget_nano_usd", "tenant")]


async def test_a_budget_of_tokens_is_never_overshot_under_concurrency() -> None:
    async with Rig(**budget(tokens=1000)) as rig:  # each may take 92, and takes 5
        found = await asyncio.gather(*(rig.hold() for _ in range(50)), return_exceptions=True)
        begun = [one for one in found if isinstance(one, Answer)]
        assert len(begun) == 1000 // 92
        assert all(isinstance(one, BudgetSpent) for one in found if not isinstance(one, Answer))
        for answer in begun:
            await answer.aclose()


async def test_best_of_many_may_cost_as_many() -> None:
    async with Rig(**budget(tokens=500)) as rig:
        raw = {"model": "m", "prompt": "Hi", "max_tokens": 50, "best_of": 10}
        with pytest.raises(BudgetSpent, match="up to 582 tokens"):  # 82 of the prompt
            await rig.ask(request=CompletionRequest.from_object(raw))


async def test_a_budget_that_runs_low_warns_from_its_share_on() -> None:
    async with Rig(**budget(tokens=184, warn_at=0.5)) as rig:
        answer = await rig.hold()  # which may take 92, half of it
        assert dict(answer.headers)[b"x-genkan-budget-warning"] == b"tenant 'acme' tokens per day"
        assert rig.told.low == ["tenant"]
        await answer.aclose()
        await rig.settled()
    async with Rig(**budget(tokens=186, warn_at=0.5)) as rig:
        assert b"x-genkan-budget-warning" not in dict((await rig.ask()).headers)


async def test_a_days_budget_is_whole_again_at_midnight_utc() -> None:
    async with Rig(**budget(tokens=95)) as rig:
        rig.clock.now_s = DAY_S * 20_000 - 1.7e9 - 1.0  # a second before midnight
        await rig.ask()
        await rig.settled()
        with pytest.raises(BudgetSpent):
            await rig.ask()
        rig.clock.now_s += 1.0
        await rig.ask()


# --- Keys ---


async def test_a_keys_own_limits_apply_to_it_alone() -> None:
    keys = tuple(ApiKey(id=f"key_{n}", hint="abcd", tenant="acme", created_s=0.0) for n in (1, 2))
    async with Rig(keys=keys, limits={"key": {"requests": {"limit": 1}}}) as rig:
        await rig.ask(key_id="key_1")
        with pytest.raises(RateLimited, match="API key"):
            await rig.ask(key_id="key_1")
        await rig.ask(key_id="key_2")
        assert rig.told.denials == [("bucket", "requests", "key")]


# --- Redis is lost ---


async def test_without_redis_limits_are_local_and_counted() -> None:
    async with Rig("lost", **tenant_of(requests={"limit": 2})) as rig:
        first = await rig.ask()
        assert dict(first.headers)[b"x-ratelimit-remaining-requests"] == b"1"
        await rig.ask()
        with pytest.raises(RateLimited):
            await rig.ask()
        assert rig.told.locally == 2


async def test_without_redis_a_local_denial_finds_its_limit_beside_a_budget() -> None:
    limits = {"key": {"requests": {"limit": 9}}, "tenant": {"requests": {"limit": 1}}}
    sections = {**budget(tokens=10_000), "limits": limits, "redis": {"when_lost": {"budgets": "open"}}}
    async with Rig("lost", **sections) as rig:
        await rig.ask()
        with pytest.raises(RateLimited, match="tenant 'acme'") as caught:
            await rig.ask()
        assert caught.value.retry_after_s == pytest.approx(60.0)


async def test_without_redis_a_budget_lets_nobody_in() -> None:
    async with Rig("lost", **budget(usd=5)) as rig:
        with pytest.raises(AccountsUnavailable):
            await rig.ask()
        await rig.ask(tenant="without-budget")
        assert len(rig.upstream.calls) == 1


async def test_long_answers_to_some_never_lock_a_route_for_others() -> None:
    estimator = Estimator()
    plan = (Line("t:a:tokens:bucket", "bucket", Unit.TOKENS, 6000, 60.0, 6000),)
    for _ in range(1000):
        estimator.learn(Size(100, 0, 1, 0, 0), 30, 50_000, 1)
    assert estimator.answer_tokens(None, 1) > 6000
    assert fitted(30 + estimator.answer_tokens(None, 1), 30, most_tokens_at_once(plan)) == 6000
    assert fitted(7000 + 10, 7000, most_tokens_at_once(plan)) == 7000  # but the prompt alone can never fit


async def test_where_a_budget_applies_the_body_names_no_other_models() -> None:
    async with Rig(**budget(usd=1)) as rig:
        with pytest.raises(InvalidRequest) as caught:
            await rig.ask(models=["o1-pro"])
        assert caught.value.param == "models"
        assert (await rig.ask(tenant="free", models=["o1-pro"])).body is not None
