"""A short fuzz campaign, as `make fuzz` runs long ones: no 5xx, no hang, no error that is not OpenAI's."""

import asyncio

from fuzz.campaign import Result, fuzz, inputs_of
from fuzz.rig import running

SEED, INPUTS = 20261122, 1_000


def test_no_input_harms_the_gateway() -> None:
    result = Result()
    with running("gateway") as rig:
        asyncio.run(fuzz(rig, result, inputs_of(SEED, 0, INPUTS, "gateway")))
        assert result.faults == []
        assert rig.is_well()
    assert (result.asked, result.overloads) == (INPUTS, 0)
    assert result.unanswered < INPUTS / 20
    assert {200, 201, 400, 401, 404, 405, 415} <= set(result.statuses)
