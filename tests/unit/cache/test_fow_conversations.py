"""fow-cache's 240 pairs of conversations: what was said before the last question is never mixed up."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from semantic_rigs import chat, semantic_rig

from genkan.wire.chat import ChatRequest

data = pytest.importorskip("fow_cache.data", reason="fow-cache is not installed")
PAIRS: list[dict[str, Any]] = data.load_conversations()
LAST: list[dict[str, Any]] = [
    pair for pair in PAIRS if pair["a"][-1]["content"].casefold() == pair["b"][-1]["content"].casefold()
]

pytestmark = pytest.mark.anyio


async def all_alike(text: str, timeout_s: float) -> NDArray[np.float32]:
    """The worst embedder there is: to it all questions are the same."""
    return np.array([1.0, 0.0], np.float32)


def request(messages: list[dict[str, str]]) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": messages, "temperature": 0})


async def test_no_conversation_gets_anothers_answer_whatever_the_vectors_say() -> None:
    assert len(PAIRS) == 240
    async with semantic_rig(all_alike) as rig:
        for place, pair in enumerate(PAIRS):
            await rig.ask(request(pair["a"]), says=f"Of {place}.")
        wrong = 0
        for place, pair in enumerate(PAIRS):
            asked = request(pair["b"])
            look = rig.exact.look(rig.scope(asked), tenant="acme", route="support", timeout_s=1.0)
            hit = await look.found() or (await rig.find(asked)).hit
            wrong += hit is not None and not (pair["same_answer"] and hit.answer.text == f"Of {place}.")
        assert wrong == 0


async def test_the_same_question_after_the_same_words_is_found() -> None:
    """The tier is not merely blind: the last question of each pair, asked again in the first one's conversation."""
    async with semantic_rig(all_alike) as rig:
        served = 0
        for pair in PAIRS:
            await rig.ask(request(pair["a"]))
            again = [*pair["a"][:-1], {"role": "user", "content": f"Hello, {pair['a'][-1]['content']} Thanks!"}]
            look = rig.exact.look(rig.scope(request(again)), tenant="acme", route="support", timeout_s=1.0)
            served += (await look.found() or (await rig.find(request(again))).hit) is not None
        assert served > 0.6 * len(PAIRS)


async def test_most_last_questions_are_equal_so_that_their_text_alone_would_be_wrong() -> None:
    """What the first test is worth: with nothing before them, the same questions are found, right or wrong."""
    assert sum(not pair["same_answer"] for pair in LAST) > 100
    async with semantic_rig(all_alike) as rig:
        found = 0
        for pair in LAST:
            await rig.exact.purge()
            await rig.index.purge()
            await rig.ask(chat(pair["a"][-1]["content"]))
            asked = chat(pair["b"][-1]["content"])
            look = rig.exact.look(rig.scope(asked), tenant="acme", route="support", timeout_s=1.0)
            found += await look.found() is not None
        assert found > 0.9 * len(LAST)
