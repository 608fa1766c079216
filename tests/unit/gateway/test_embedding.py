"""Requests for embeddings: which model, what they take of limits and budgets, and what the ledger has of them."""

import asyncio
from typing import Any

import numpy as np
import pytest
from accounts_at_hand import AccountsAtHand
from embedders import ScriptedEmbedder
from responders import ScriptedResponder
from scripted_upstreams import ServedBy, router_to

from genkan.config import Config
from genkan.errors import (
    BudgetSpent,
    ContextTooLong,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    TimedOut,
    UnsupportedOption,
    UpstreamFull,
)
from genkan.gateway.embedding import EmbeddingAnswer, Embeddings
from genkan.gateway.ledger_row import AttemptRow, Row
from genkan.store.accounts import Unit
from genkan.wire.caller import Caller
from genkan.wire.embeddings import EmbeddingRequest
from genkan.wire.extras import NO_EXTRAS, Extras
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio
CALLER = Caller("req_1", "acme", "key_1")
TOO_LONG = ContextTooLong(limit_tokens=512, prompt_tokens=600, max_tokens=0, param="input")


def limited(**limits: Any) -> dict[str, Any]:
    return {"limits": {"tenant": limits}}


def budget(**budget: Any) -> dict[str, Any]:
    return {"tenants": [{"name": "acme", "budgets": [{"per": "total", **budget}]}]}


class Rig(AccountsAtHand):
    """The embedding model `e` at 20 dollars a million tokens, beside a model `m` that generates text."""

    def __init__(self, by: ScriptedEmbedder | None = None, **sections: Any) -> None:
        config = Config.model_validate(
            {
                "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
                "models": [{"name": "m", "upstream": "u"}],
                "embedder": {"name": "e", "timeout_s": 3.0},
                "prices": {"models": [{"model": "e", "input": 20.0, "output": 0.0}]},
                **sections,
            }
        )
        super().__init__(config)
        self.embedder = by or ScriptedEmbedder()
        self.router = router_to(config, [ServedBy(ScriptedResponder(), "u")])
        assert self.router.embedder is not None
        self.embeddings = Embeddings(self.embedder, self.router.embedder, self.router, self.admissions, timeout_s=3.0)

    async def ask(
        self,
        *texts: str,
        model: str = "e",
        dimensions: int | None = None,
        caller: Caller = CALLER,
        extras: Extras = NO_EXTRAS,
    ) -> EmbeddingAnswer:
        request = EmbeddingRequest(
            model=model, texts=[*texts] or ["one two"], encoding="float", dimensions=dimensions, extras=extras
        )
        return await self.embeddings.respond(request, caller)

    async def row(self) -> Row:
        (row,) = await self.rows()
        return row

    async def used(self, unit: Unit) -> int:
        await self.settled()
        plan = self.policies.of(CALLER, "e", self.clock.unix()).plan
        states = await self.accounts.read(plan)
        (used,) = [line.limit - state.remaining for line, state in zip(plan, states, strict=True) if line.unit is unit]
        return used


# --- The answer ---


async def test_gives_a_vector_for_each_text_and_all_their_tokens() -> None:
    async with Rig() as rig:
        answer = await rig.ask("one two three", "four")
    assert np.array_equal(answer.vectors, [rig.embedder.vector("one two three"), rig.embedder.vector("four")])
    assert (answer.tokens, answer.cost_nano_usd) == (4, 80_000)
    assert rig.embedder.asked == [(["one two three", "four"], 3.0)]
    assert dict(answer.headers) == {
        b"x-genkan-model": b"e",
        b"x-genkan-upstream": b"embedder",
        b"x-genkan-cost-usd": b"0.000080000",
    }


async def test_without_a_price_elsewhere_the_cost_is_not_known() -> None:
    async with Rig(prices={"models": []}, embedder={"name": "e", "model": "upstream:u/x"}) as rig:
        answer = await rig.ask()
        row = await rig.row()
    assert (answer.cost_nano_usd, row.cost_nano_usd) == (None, None)
    assert b"x-genkan-cost-usd" not in dict(answer.headers)


async def test_without_a_price_our_own_costs_nothing() -> None:
    async with Rig(prices={"models": []}) as rig:
        answer = await rig.ask()
        row = await rig.row()
    assert (answer.cost_nano_usd, row.cost_nano_usd, row.usage) == (0, 0, Usage(2, 0))
    assert dict(answer.headers)[b"x-genkan-cost-usd"] == b"0.000000000"


async def test_fewer_dimensions_are_the_first_ones_at_length_1() -> None:
    async with Rig() as rig:
        whole = (await rig.ask("text", caller=Caller("req_1"))).vectors[0]
        short = (await rig.ask("text", dimensions=3, caller=Caller("req_2"))).vectors[0]
        same = (await rig.ask("text", dimensions=8, caller=Caller("req_3"))).vectors[0]
    assert short == pytest.approx(whole[:3] / np.linalg.norm(whole[:3]))
    assert np.array_equal(same, whole)


async def test_more_dimensions_than_there_are_are_refused_and_soon_without_asking_the_model() -> None:
    async with Rig() as rig:
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="at most 8, which is what this model has; given: 9") as caught:
                await rig.ask(dimensions=9)
            assert caught.value.param == "dimensions"
        row = await rig.row()
    assert (len(rig.embedder.asked), row.state, row.cost_nano_usd) == (1, "invalid_value", 0)


# --- Which model ---


@pytest.mark.parametrize(
    ("model", "caller", "error"),
    [
        ("nobody", CALLER, ModelNotFound),
        ("m", CALLER, InvalidRequest),
        ("e", Caller("req_1", models=frozenset({"m"})), ModelNotFound),
        ("m", Caller("req_1", models=frozenset({"e"})), ModelNotFound),
    ],
)
async def test_other_models_have_no_embeddings(model: str, caller: Caller, error: type[Exception]) -> None:
    async with Rig() as rig:
        with pytest.raises(error) as caught:
            await rig.ask(model=model, caller=caller)
        assert type(caught.value) is error
        assert await rig.rows() == []
    assert rig.embedder.asked == []


async def test_the_embedding_model_generates_no_text() -> None:
    with pytest.raises(InvalidRequest, match="computes embeddings") as caught:
        Rig().router.resolve("e")
    assert (caught.value.status, caught.value.param) == (400, "model")


async def test_stored_embeddings_cannot_be_asked_for() -> None:
    async with Rig() as rig:
        with pytest.raises(UnsupportedOption):
            await rig.ask(extras=Extras(cache="only"))


# --- Limits and budgets ---


async def test_a_limit_on_requests_is_told_and_kept() -> None:
    async with Rig(**limited(requests={"limit": 1})) as rig:
        answer = await rig.ask()
        assert dict(answer.headers)[b"x-ratelimit-remaining-requests"] == b"0"
        with pytest.raises(RateLimited) as caught:
            await rig.ask()
    assert caught.value.type == "requests"
    assert len(rig.embedder.asked) == 1


async def test_a_limit_on_tokens_counts_what_the_texts_had() -> None:
    async with Rig(**limited(tokens={"limit": 1000, "algorithm": "sliding_window"})) as rig:
        await rig.ask("one two three")
        assert await rig.used(Unit.TOKENS) == 3


async def test_texts_that_can_never_fit_are_told_so() -> None:
    async with Rig(**limited(tokens={"limit": 10})) as rig:
        with pytest.raises(InvalidRequest) as caught:
            await rig.ask("x" * 400)
    assert (caught.value.code, caught.value.param) == ("request_exceeds_limit", "input")


async def test_a_limit_on_concurrent_requests_gives_back_at_the_end() -> None:
    async with Rig(**limited(concurrent=1)) as rig:
        await rig.ask()
        await rig.settled()
        await rig.ask(caller=Caller("req_2", "acme"))


async def test_a_budget_is_drawn_on_by_what_it_was_exactly() -> None:
    async with Rig(**budget(usd=1, tokens=1_000_000)) as rig:
        await rig.ask("one two three")
        assert await rig.used(Unit.BUDGET_TOKENS) == 3
        assert await rig.used(Unit.BUDGET_NANO_USD) == 60_000


async def test_a_budget_must_cover_the_most_that_texts_may_take() -> None:
    async with Rig(**budget(tokens=500)) as rig:
        await rig.ask("x" * 300)
        with pytest.raises(BudgetSpent):
            await rig.ask("x" * 600, caller=Caller("req_2", "acme"))
        # Our own model reads no more than 512 tokens of a text, whatever its length.
        with pytest.raises(BudgetSpent, match="up to 512 tokens"):
            await rig.ask("x" * 100_000, caller=Caller("req_3", "acme"))


# --- The ledger ---


async def test_the_row_of_an_answer() -> None:
    async with Rig() as rig:
        await rig.ask("one two three")
        row = await rig.row()
    usage = Usage(3, 0)
    assert row == Row(
        id="req_1",
        t_s=rig.clock.unix(),
        tenant="acme",
        key="key_1",
        route="e",
        stream=False,
        state="ok",
        late=False,
        usage=usage,
        estimated=False,
        cost_nano_usd=60_000,
        saved_nano_usd=0,
        attempts=(AttemptRow(1, "e@embedder", "ok", usage, False, 60_000, 0.0),),
        answered=1,
    )
    assert rig.told.bills == [("e@embedder", usage, 60_000, 0)]


@pytest.mark.parametrize(
    ("error", "state", "taken"),
    [
        (TOO_LONG, "context_length_exceeded", 0),
        (UpstreamFull(upstream="embedder", limit=1, queue=1), "server_is_overloaded", 0),
        (TimedOut(upstream="embedder", phase="total", limit_s=3.0), "upstream_timeout", None),
        (RuntimeError("a bug"), "internal_error", None),
    ],
)
async def test_an_error_is_nobodys_to_pay_and_passed_on(error: Exception, state: str, taken: int | None) -> None:
    async with Rig(ScriptedEmbedder(refuse=error), **budget(tokens=1_000)) as rig:
        with pytest.raises(type(error)) as caught:
            await rig.ask()
        row = await rig.row()
        assert await rig.used(Unit.BUDGET_TOKENS) == 0
    assert caught.value is error
    assert (row.state, row.usage, row.cost_nano_usd, row.answered) == (state, None, 0, None)
    assert (row.attempts[0].state, row.attempts[0].cost_nano_usd) == (state, taken)
    assert rig.told.bills == []


async def test_an_error_tells_the_client_of_its_limits() -> None:
    error = UpstreamFull(upstream="embedder", limit=1, queue=1)
    async with Rig(ScriptedEmbedder(refuse=error), **limited(requests={"limit": 5})) as rig:
        with pytest.raises(UpstreamFull) as caught:
            await rig.ask()
    assert dict(caught.value.headers)[b"x-ratelimit-limit-requests"] == b"5"


async def test_who_leaves_is_billed_the_estimate() -> None:
    async with Rig(ScriptedEmbedder(hangs=True)) as rig:
        asking = asyncio.create_task(rig.ask("x" * 400))
        await rig.embedder.entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        row = await rig.row()
    assert row.usage is not None
    assert row.usage.prompt > 100  # one for four characters, and some around them
    assert (row.state, row.estimated, row.cost_nano_usd) == ("client_gone", True, row.usage.prompt * 20_000)


async def test_without_a_ledger_a_row_is_kept_only_for_budgets() -> None:
    async with Rig(ledger={"enabled": False}) as rig:
        await rig.ask()
        assert await rig.rows() == []
    async with Rig(ledger={"enabled": False}, **budget(tokens=1_000)) as rig:
        await rig.ask()
        assert len(await rig.rows()) == 1


async def test_what_texts_take_is_learnt() -> None:
    async with Rig() as rig:
        model, text = rig.embeddings.model, "word " * 40
        size = model.size_of([text])
        before = model.estimator.prompt_tokens(size)
        for number in range(50):
            await rig.ask(text, caller=Caller(f"req_{number}"))
        assert abs(model.estimator.prompt_tokens(size) - 40) < abs(before - 40)


# --- Elsewhere ---


async def test_a_model_of_an_upstream_has_its_price_and_its_name() -> None:
    elsewhere = {"name": "e", "model": "upstream:u/vendor/text-embedding"}
    prices = {"models": [{"model": "vendor/text-embedding", "upstream": "u", "flat": 5.0}]}
    async with Rig(embedder=elsewhere, prices=prices) as rig:
        answer = await rig.ask("one")
        row = await rig.row()
    assert (row.deployment, answer.cost_nano_usd) == ("e@u", 5_000)
    assert dict(answer.headers)[b"x-genkan-upstream"] == b"u"
