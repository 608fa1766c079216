"""What the semantic tier asks of models."""

import asyncio
from collections.abc import Sequence

import numpy as np
import orjson
import pytest
from responders import HELLO, ScriptedResponder

from genkan.cache.judge import Reply
from genkan.cache.judge_prompt import INSTRUCTIONS
from genkan.cache.seekable import may_be
from genkan.errors import EngineUnavailable, TimedOut
from genkan.gateway.judging import asking, question_vectors
from genkan.upstream.base import Answer
from genkan.upstream.embeddings import Embedded
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest

MATTER = '{"stored_question":"How do I pay?","stored_answer":"By card.","new_question":"How can I pay?"}'

pytestmark = pytest.mark.anyio


async def test_the_model_is_asked_once_briefly_and_without_chance() -> None:
    responder = ScriptedResponder()
    reply = await asking(responder, "judge")(INSTRUCTIONS, MATTER)
    assert reply == Reply("Hello", None)
    (request,) = responder.requests
    assert request.model == "judge"
    assert request.raw["messages"] == [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": MATTER},
    ]
    assert (request.sampling.temperature, request.sampling.max_tokens, request.stream) == (0, 16, False)
    assert responder.closed == 1


async def test_a_verdict_is_never_stored_nor_like_another() -> None:
    responder = ScriptedResponder()
    await asking(responder, "judge")(INSTRUCTIONS, MATTER)
    assert responder.requests[0].extras.cache == "no-store"
    assert not may_be(MATTER)


class Billing(ScriptedResponder):
    """Answers with a stream that nobody asked for, and says what it cost."""

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        self.callers = [*getattr(self, "callers", []), caller]
        answer = Answer(batches=self._stream())
        answer.cost_nano_usd = 7
        answer.on_close(self._count_close)
        return answer


async def test_a_stream_is_read_too_and_what_it_cost_is_told() -> None:
    responder = Billing(list(HELLO))
    ask = asking(responder, "judge")
    assert await ask(INSTRUCTIONS, MATTER) == Reply("Hello", 7)
    await asyncio.gather(ask(INSTRUCTIONS, MATTER))
    assert [caller.tenant for caller in responder.callers] == ["genkan-judge"] * 2
    assert responder.closed == 2


async def test_no_two_verdicts_have_one_id_whichever_worker_asks() -> None:
    """The ledger knows a request by it: of two with one id, only one would be paid."""
    responder = Billing(list(HELLO))
    for ask in (asking(responder, "judge"), asking(responder, "judge")):
        await ask(INSTRUCTIONS, MATTER)
        await ask(INSTRUCTIONS, MATTER)
    assert len({caller.request_id for caller in responder.callers}) == 4


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"choices":[{}]}', b'{"choices":[1]}', b"null"])
async def test_a_reply_that_is_none_raises_and_is_closed(body: bytes) -> None:
    responder = ScriptedResponder(body=body)
    with pytest.raises(ValueError, match="no chat completion"):
        await asking(responder, "judge")(INSTRUCTIONS, MATTER)
    assert responder.closed == 1


async def test_a_reply_without_text_says_nothing_and_a_refusal_is_passed_on() -> None:
    empty = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": None}}]})
    assert (await asking(ScriptedResponder(body=empty), "judge")(INSTRUCTIONS, MATTER)).text == ""
    with pytest.raises(EngineUnavailable):
        await asking(ScriptedResponder(refuse=EngineUnavailable("loading")), "judge")(INSTRUCTIONS, MATTER)


class OneVector:
    """An embedder of one vector, or none."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[tuple[list[str], float]] = []

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedded:
        self.asked.append((list(texts), timeout_s))
        if self.fails:
            raise TimedOut(upstream="embedder", phase="total", limit_s=timeout_s)
        return Embedded(np.array([[0.6, 0.8]], np.float32), [3])

    async def aclose(self) -> None:
        pass


async def test_a_question_has_a_vector_or_none_where_the_embedder_fails() -> None:
    works, fails = OneVector(), OneVector(fails=True)
    vector = await question_vectors(works)("How do I pay?", 0.05)
    assert vector is not None
    assert vector.tolist() == pytest.approx([0.6, 0.8])
    assert works.asked == [(["How do I pay?"], 0.05)]
    assert await question_vectors(fails)("How do I pay?", 0.05) is None
