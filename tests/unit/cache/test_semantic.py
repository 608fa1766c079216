"""The semantic tier: what is found, what is not, and what is learnt."""

import asyncio
import math
import timeit
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from semantic_rigs import ON, SHADOW, TTL_S, VERIFIED, Angles, SayingModel, SemanticRig, chat, semantic_rig

from genkan.cache.pause import PAUSE_S
from genkan.config import RouteCacheConfig

RESET, RESET_TOO = "How do I reset my password?", "What is the way to reset a password?"
REFUND = "How do I get a refund for a cancelled flight?"
DOUBTFUL = "How can I get my fare for a cancelled flight paid back?"
CANCEL = "How do I cancel my subscription?"
NEAR = Angles({RESET: 0.0, RESET_TOO: 4.0, CANCEL: 60.0, REFUND: 120.0, DOUBTFUL: 136.0})

pytestmark = pytest.mark.anyio


async def test_a_question_gets_the_answer_of_a_like_one_of_its_scope() -> None:
    async with semantic_rig(NEAR) as rig:
        first = await rig.ask(chat(RESET), says="Open the settings.")
        assert first.hit is None
        sought = await rig.find(chat(RESET_TOO))
        assert sought.hit is not None
        assert (sought.hit.tier, sought.hit.answer.text) == ("semantic", "Open the settings.")
        assert (await rig.find(chat(CANCEL))).hit is None
        assert rig.told.failures == []
        assert rig.told.embedded_times == 3


@pytest.mark.parametrize(
    ("other", "tenant"),
    [
        (chat(RESET_TOO), "other"),
        (chat(RESET_TOO, model="n"), "acme"),
        (chat("Hello", "Hi", RESET_TOO), "acme"),
        (chat(RESET_TOO, temperature=0.5), "acme"),
        (chat(RESET_TOO, seed=1), "acme"),
        (chat(RESET_TOO, max_tokens=5), "acme"),
        (chat(RESET_TOO, response_format={"type": "json_object"}), "acme"),
        (chat(RESET_TOO, an_option_of_tomorrow=1), "acme"),
        (chat(RESET_TOO, tools=[{"type": "function", "function": {"name": "f"}}]), "acme"),
    ],
)
async def test_nothing_of_another_tenant_history_or_parameter_is_found(other: object, tenant: str) -> None:
    async with semantic_rig(NEAR) as rig:
        await rig.ask(chat(RESET))
        assert (await rig.find(chat(RESET_TOO))).hit is not None
        assert (await rig.find(other, tenant=tenant)).hit is None  # type: ignore[arg-type]  # pytest's parameters


async def test_the_same_history_is_the_same_scope() -> None:
    async with semantic_rig(NEAR) as rig:
        await rig.ask(chat("Hello", "Hi", RESET))
        assert (await rig.find(chat("Hello", "Hi", RESET_TOO))).hit is not None


async def test_an_entry_that_claims_another_partition_or_another_question_is_not_believed() -> None:
    async with semantic_rig(NEAR) as rig:
        await rig.ask(chat(RESET))
        scope = rig.scope(chat(RESET))
        await rig.rewritten(scope, partition=b"x" * 16)
        assert (await rig.find(chat(RESET_TOO))).hit is None
        # Its own record says what it answers, whatever the index says.
    async with semantic_rig(NEAR) as rig:
        await rig.ask(chat(RESET))
        await rig.rewritten(rig.scope(chat(RESET)), question="How do I never reset my password?")
        assert (await rig.find(chat(RESET_TOO))).hit is None


async def test_what_is_purged_or_expired_is_not_found() -> None:
    async with semantic_rig(NEAR) as rig:
        await rig.ask(chat(RESET))
        await rig.exact.purge(tenant="acme")
        assert (await rig.find(chat(RESET_TOO))).hit is None
        await rig.ask(chat(RESET))
        assert (await rig.find(chat(RESET_TOO))).hit is not None
        rig.clock.advance(601.0)
        assert (await rig.find(chat(RESET_TOO))).hit is None


@pytest.mark.parametrize(
    "text",
    ["cancel it", "What is the weather today?", "Explain `a == b` to me please", "Mail a@b.example about it", "왜?",
     "word " * 200, "如何付款 呢 吧 啊"],
)  # fmt: skip
async def test_what_is_no_question_of_its_own_is_not_even_embedded(text: str) -> None:
    async with semantic_rig(NEAR) as rig:
        asked = len(NEAR.asked)
        sought = await rig.find(chat(text))
        assert sought.asked is None
        assert len(NEAR.asked) == asked


async def test_a_route_without_the_tier_finds_and_learns_nothing() -> None:
    async with semantic_rig(NEAR) as rig:
        assert (await rig.ask(chat(RESET), RouteCacheConfig())).asked is None
        assert rig.index.size == 0


async def test_in_shadow_mode_it_is_only_told_and_judged() -> None:
    model = SayingModel("NO")
    async with semantic_rig(NEAR, model) as rig:
        await rig.ask(chat(RESET), SHADOW, says="Open the settings.")
        sought = await rig.ask(chat(RESET_TOO), SHADOW, says="Look at the menu.")
        assert sought.hit is None
        assert sought.is_shadow
        assert model.matters == [
            {
                "stored_question": RESET,
                "stored_answer": "Open the settings.",
                "new_question": RESET_TOO,
                "new_answer": "Look at the menu.",
            }
        ]
        assert rig.told.verdicts == ["different"]
        ((_, same),) = rig.index.seen(rig.scope(chat(RESET)).key)
        assert not same


@pytest.mark.parametrize("mode", ["no-store", "only"])
async def test_a_request_that_is_to_leave_nothing_is_not_shown_to_a_judge(mode: str) -> None:
    """Neither another company's model nor an alias gets to know its text."""
    model = SayingModel("YES")
    async with semantic_rig(NEAR, model) as rig:
        await rig.ask(chat(RESET))
        unseen = chat(RESET_TOO, genkan={"cache": mode})
        assert (await rig.find(unseen)).hit is not None
        await rig.judged()
        assert model.matters == []
        look = rig.exact.look(rig.scope(unseen), tenant="acme", route="support", timeout_s=1.0)
        assert await look.found() is None


async def test_a_judges_no_is_final() -> None:
    model = SayingModel("NO")
    async with semantic_rig(NEAR, model) as rig:
        await rig.ask(chat(RESET))
        assert (await rig.find(chat(RESET_TOO))).hit is not None  # and a share of hits is judged: here, each
        await rig.judged()
        assert (await rig.find(chat(RESET_TOO))).hit is None


async def test_a_doubtful_pair_is_judged_and_after_a_yes_served() -> None:
    model = SayingModel("YES")
    async with semantic_rig(NEAR, model) as rig:
        await rig.ask(chat(REFUND), says="Write to us.")
        sought = await rig.find(chat(DOUBTFUL))
        assert sought.hit is None
        assert sought.doubt is not None
        await rig.tier.learn(sought, None)  # its own answer could not be stored
        await rig.judged()
        # An alias under its own key, so that the exact tier finds it, in every worker.
        look = rig.exact.look(rig.scope(chat(DOUBTFUL)), tenant="acme", route="support", timeout_s=1.0)
        found = await look.found()
        assert found is not None
        assert (found.tier, found.answer.text, found.answer.question) == ("alias", "Write to us.", DOUBTFUL)
        original = await rig.exact.look(rig.scope(chat(REFUND)), tenant="acme", route="support", timeout_s=1.0).found()
        assert original is not None
        assert found.answer.expires_s == original.answer.expires_s
        assert rig.index.size == 1  # an alias is nobody's neighbour
        again = await rig.find(chat(DOUBTFUL))
        assert again.hit is not None
        assert again.hit.tier == "semantic"


async def test_a_question_with_an_answer_of_its_own_keeps_that() -> None:
    async with semantic_rig(NEAR, SayingModel("YES")) as rig:
        await rig.ask(chat(REFUND), says="Write to us.")
        await rig.ask(chat(DOUBTFUL), says="My own.")
        found = await rig.exact.look(rig.scope(chat(DOUBTFUL)), tenant="acme", route="support", timeout_s=1.0).found()
        assert found is not None
        assert (found.tier, found.answer.text) == ("exact", "My own.")


WAYS = ("do I", "can I", "could I", "should I", "might I", "would I", "may I", "shall I", "will I", "must I")


@pytest.mark.parametrize(
    ("says", "apart", "hits"), [("YES", [6.0] * 9, [False] * 4 + [True] * 5), ("NO", [*range(6, 60, 6)], [False] * 9)]
)
async def test_verified_mode_serves_what_was_judged_right_often_enough(
    says: str, apart: list[float], hits: list[bool]
) -> None:
    first, *others = (f"How {way} reset my password?" for way in WAYS)
    embed = Angles({first: 0.0, **dict(zip(others, apart, strict=True))})
    settings = VERIFIED.model_copy(update={"max_error_rate": 0.05})
    async with semantic_rig(embed, SayingModel(says), drawn=0.6) as rig:
        await rig.ask(chat(first), settings)
        found = [(await rig.ask(chat(text), settings)).hit is not None for text in others]
        assert found == hits
        # What an entry answers already needs none of its own.
        assert rig.index.size == (1 if says == "YES" else 10)


async def test_verified_mode_learns_as_usual_where_nobody_judges() -> None:
    first, second = f"How {WAYS[0]} reset my password?", f"How {WAYS[1]} reset my password?"
    async with semantic_rig(Angles({first: 0.0, second: 6.0}), drawn=0.99) as rig:
        for text in (first, second):
            assert (await rig.ask(chat(text), VERIFIED)).hit is None
        assert rig.index.size == 2


async def test_an_embedder_that_fails_hangs_or_raises_is_a_miss() -> None:
    async def hangs(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        await asyncio.Event().wait()
        raise AssertionError

    async def raises(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        raise RuntimeError(text)

    async with semantic_rig(hangs) as rig:
        assert (await rig.find(chat(RESET), timeout_s=0.01)).hit is None
        assert rig.told.failures == ["timeout"]
        assert (await rig.find(chat(RESET), timeout_s=0.0)).asked is None
    async with semantic_rig(raises) as rig:
        assert (await rig.find(chat(RESET))).hit is None
        assert rig.told.failures == ["semantic"]
    async with semantic_rig(Angles({})) as rig:
        assert (await rig.find(chat(RESET))).hit is None
        assert rig.told.failures == []


async def test_what_could_not_be_embedded_in_time_is_behind_the_reply() -> None:
    waits = [True]

    async def slow_once(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        if waits.pop():
            await asyncio.Event().wait()
        waits.append(False)
        return await NEAR(text, timeout_s)

    async with semantic_rig(slow_once) as rig:
        sought = await rig.find(chat(RESET), timeout_s=0.01)
        waits.append(False)
        scope = rig.scope(chat(RESET))
        look = rig.exact.look(scope, tenant="acme", route="support", timeout_s=1.0)
        assert await look.found() is None
        answer = rig.answer(scope, "Open the settings.")
        look.put(answer, ttl_s=TTL_S)
        await rig.tier.learn(sought, answer)
        rig.clock.advance(PAUSE_S)
        assert (await rig.find(chat(RESET_TOO))).hit is not None


@pytest.mark.parametrize("gives_up", [False, True])
async def test_an_embedder_that_hangs_costs_one_request_its_time_and_not_all(gives_up: bool) -> None:
    rig: SemanticRig
    asked = 0

    async def hangs(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        nonlocal asked
        asked += 1
        if asked > 2:
            return await NEAR(text, timeout_s)
        if not gives_up:
            await asyncio.Event().wait()
        rig.clock.advance(timeout_s)
        return None

    async with semantic_rig(hangs) as rig:
        for asked_by_then in (1, 2):
            for _ in range(5):
                sought = await rig.find(chat(RESET), timeout_s=0.01)
                assert (sought.hit, sought.asked is None) == (None, False)  # it is learnt behind the reply
            assert asked == asked_by_then
            rig.clock.advance(PAUSE_S)
        assert rig.told.failures.count("paused") == 8
        for _ in range(5):
            assert (await rig.find(chat(RESET), timeout_s=0.01)).vector is not None


async def test_only_a_questions_own_whole_answer_is_learnt() -> None:
    async with semantic_rig(NEAR) as rig:
        sought = await rig.find(chat(RESET))
        own = rig.answer(rig.scope(chat(RESET)), "Open the settings.")
        elsewhere = rig.answer(rig.scope(chat(RESET), tenant="other"), "Theirs.")
        for answer in (elsewhere, replace(own, is_alias=True), replace(own, finish_reason="length"), None):
            await rig.tier.learn(sought, answer)
            assert rig.index.size == 0
        await rig.tier.learn(sought, own)
        assert rig.index.size == 1


async def test_who_goes_away_while_it_is_sought_is_gone() -> None:
    begun = asyncio.Event()

    async def hangs(text: str, timeout_s: float) -> NDArray[np.float32] | None:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with semantic_rig(hangs) as rig:
        seeking = asyncio.create_task(rig.find(chat(RESET)))
        await begun.wait()
        seeking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await seeking


async def test_a_search_among_known_questions_takes_under_a_millisecond() -> None:
    async with semantic_rig(NEAR) as rig:
        for text in (RESET, CANCEL):
            await rig.ask(chat(text))
        request = chat(RESET_TOO)
        scope = rig.scope(request)
        loop = asyncio.get_running_loop()
        best_s = math.inf
        for _ in range(50):
            began_s = timeit.default_timer()
            await rig.tier.find(request, scope, ON, tenant="acme", route="support", timeout_s=1.0)
            best_s = min(best_s, timeit.default_timer() - began_s)
        assert loop.is_running()
        assert best_s < 1e-3
