"""What a hedged request costs: its client one answer, us what both attempts took."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from scripted_upstreams import ANSWERS, HANGS, QUEUES, ScriptedUpstream, ServedBy, Turn, taken
from ticket_rig import BIG_NANO, BILLED, CALLER, CONFIG, Rig, ask, served

from genkan.config import Config
from genkan.gateway.ledger_row import Row
from genkan.gateway.pipeline import Pipeline
from genkan.wire.caller import Caller
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio

KNOWN = 10
SETTINGS = CONFIG.model_dump(mode="json", exclude_unset=True)
HEDGED = Config.model_validate(
    SETTINGS
    | {
        "models": [
            {
                "name": "big",
                "deployments": [{"upstream": "up-1"}, {"upstream": "up-2", "weight": 0}],
                "max_output_tokens": 100,
            },
        ],
        "routes": [{"alias": "nick", "chain": ["big"], "hedge": {"min_samples": KNOWN, "budget_min": 2}}],
        "prices": {"models": [{"model": "big", "input": 2.0, "output": 8.0}]},
    }
)
PROMPT = Usage(4, 0)  # as it is guessed


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(HEDGED) as rig:
        yield rig


async def known(rig: Rig, turn: Turn, second: ScriptedUpstream | ServedBy) -> Pipeline:
    """A pipeline to an upstream whose first tokens are known, and that takes that ``turn`` next, and to ``second``."""
    pipeline = rig.to(rig.scripted("up-1", *[ANSWERS] * KNOWN, turn), second)
    for number in range(KNOWN):
        await taken(await pipeline.respond(ask(stream=True), Caller(f"req_known_{number}", "acme", "key_1")))
    return pipeline


async def row_of(rig: Rig) -> Row:
    return next(row for row in await rig.rows() if row.id == CALLER.request_id)


async def test_the_loser_has_a_row_and_costs_the_client_nothing(rig: Rig) -> None:
    pipeline = await known(rig, HANGS, served("up-2"))
    await taken(await pipeline.respond(ask(stream=True), CALLER))
    row = await row_of(rig)
    lost, won = row.attempts
    assert (row.state, row.usage, row.cost_nano_usd) == ("ok", BILLED, BIG_NANO)
    assert (lost.deployment, lost.state, lost.usage, lost.estimated) == ("big@up-1", "hedged", PROMPT, True)
    assert lost.cost_nano_usd == 4 * 2000
    assert (won.deployment, won.state, won.cost_nano_usd, row.answered) == ("big@up-2", "ok", BIG_NANO, 2)


async def test_a_loser_that_was_never_sent_costs_nothing(rig: Rig) -> None:
    pipeline = await known(rig, QUEUES, served("up-2"))
    await taken(await pipeline.respond(ask(stream=True), CALLER))
    lost, _ = (await row_of(rig)).attempts
    assert (lost.state, lost.usage, lost.cost_nano_usd) == ("hedged", None, 0)


@pytest.mark.parametrize("second", [HANGS, QUEUES])
async def test_a_client_that_leaves_both_pays_one_prompt(rig: Rig, second: Turn) -> None:
    other = rig.scripted("up-2", second)
    pipeline = await known(rig, HANGS, other)
    asking = asyncio.create_task(pipeline.respond(ask(stream=True), CALLER))
    await other.entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    row = await row_of(rig)
    assert (row.state, row.usage, row.cost_nano_usd) == ("client_gone", PROMPT, 4 * 2000)
    assert [attempt.state for attempt in row.attempts] == ["client_gone", "client_gone"]
