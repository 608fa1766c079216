"""Answers of the real model, cut after each of their tokens and gone on with from their text alone.

The text so far is what a client has been shown. The rest is that of the uncut answer wherever the text is tokenised as
the model had written it; where it is not, which forms bring about, it is another answer of the same form.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from compiled_kernels import compiled_kernels
from grammar_rigs import grammars, real_table

from genkan.clock import SystemClock
from genkan.config import ModelDefaults
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.grammar.grammars import Grammars
from genkan.engine.model_runner import ModelRunner
from genkan.errors import InvalidRequest
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

pytestmark = pytest.mark.anyio

NUM_TOKENS = 40
#: The first answers in Vietnamese, the second in English with words of Japanese and Korean.
QUESTIONS = {"vi": "Thủ đô của Việt Nam là gì?", "ko": "한국의 수도는 어디입니까?"}
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "old": {"type": "boolean"},
        "people": {"type": "integer"},
    },
    "required": ["city", "old", "people"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}


class Ended(NamedTuple):
    text: str
    reason: str


class Rig(NamedTuple):
    model: LocalModel
    tokenizer: TextTokenizer

    async def answer(self, body: dict[str, Any], **more: Any) -> Ended:
        answer = await self.model.respond(request_of({**body, **more}))
        assert answer.body is not None
        [choice] = json.loads(answer.body)["choices"]
        return Ended(choice["message"]["content"] if "message" in choice else choice["text"], choice["finish_reason"])

    async def shown(self, body: dict[str, Any]) -> list[str]:
        """What a client has of the answer after each of its tokens; the last is all of it."""
        answer = await self.model.respond(request_of({**body, "stream": True}))
        assert answer.batches is not None
        chunks = [json.loads(payload) async for batch in answer.batches for payload in batch]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        pieces = [choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices]
        return ["".join(pieces[: place + 1]) for place, piece in enumerate(pieces) if piece]

    async def num_tokens(self, body: dict[str, Any], text: str) -> int:
        """Of ``text``, where the answer begins with it."""
        both = await self.model.count_tokens(request_of({**body, "continue_text": text}))
        return both.count - (await self.model.count_tokens(request_of(body))).count


def request_of(body: dict[str, Any]) -> GenerationRequest:
    parse = ChatRequest.from_object if "messages" in body else CompletionRequest.from_object
    return parse({"model": "m", "temperature": 0, "max_tokens": NUM_TOKENS, **body})


@pytest.fixture(scope="module")
def rig(tokenizer: TextTokenizer) -> Iterator[Rig]:
    compiled_kernels()  # so there is a compiler
    config = EngineConfig(profile="exact", kernels="c", kv_memory_bytes=256 << 20, max_model_len=1024, max_sequences=64)
    made: Grammars = grammars(real_table())
    engine = Engine(ModelRunner(config), config, grammars=made)
    model = LocalModel(engine, tokenizer, name="m", fingerprint="fp", defaults=ModelDefaults(), clock=SystemClock())
    yield Rig(model, tokenizer)
    engine.stop()
    made.close()


def chat(question: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **options}


STORY = "Once upon a time"
ASKED: dict[str, dict[str, Any]] = {
    "a story": {"prompt": STORY},
    "a drawn story": {
        "prompt": STORY, "temperature": 0.8, "seed": 5, "presence_penalty": 0.7, "frequency_penalty": 0.4,
        "repetition_penalty": 1.1,
    },
    **{language: chat(question) for language, question in QUESTIONS.items()},
}  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
async def test_the_rest_is_that_of_the_uncut_answer(rig: Rig, asked: str) -> None:
    """A token after each cut: what follows it is what follows the next cut. All of the rest after a few."""
    body = ASKED[asked]
    shown = await rig.shown(body)
    assert len(shown) > 30

    async def check(place: int) -> None:
        so_far, all_of_it = shown[place], place % 18 == 1
        limit = NUM_TOKENS if all_of_it else await rig.num_tokens(body, so_far) + 1
        rest, reason = await rig.answer(body, continue_text=so_far, max_tokens=min(limit, NUM_TOKENS))
        together = so_far + rest
        assert together == shown[-1] if all_of_it else shown[-1].startswith(together.rstrip("\ufffd"))
        assert reason == "length"

    await asyncio.gather(*map(check, range(len(shown))))


async def test_after_a_prompt_of_ids_as_well(rig: Rig) -> None:
    shown = await rig.shown({"prompt": STORY})
    rest = await rig.answer({"prompt": rig.tokenizer.encode(STORY)}, continue_text=shown[20])
    assert rest == Ended(shown[-1].removeprefix(shown[20]), "length")


@pytest.mark.parametrize("language", QUESTIONS)
async def test_an_answer_of_a_form_stays_one_wherever_it_is_cut(rig: Rig, language: str) -> None:
    body = chat(QUESTIONS[language], response_format=FORM)
    shown = await rig.shown(body)
    assert CITY["required"] == [*json.loads(shown[-1])]

    async def rest_of(text: str) -> str:
        rest, reason = await rig.answer(body, continue_text=text, max_tokens=60)
        assert reason == "stop"
        return rest

    beginnings = shown[::5] + shown[-2:]
    for beginning, rest in zip(beginnings, await asyncio.gather(*map(rest_of, beginnings)), strict=True):
        found = json.loads(beginning + rest)
        assert [*map(type, found.values())] == [str, bool, int]
        assert len(found["city"]) <= 20
    assert await rest_of(shown[-1]) == ""
    assert await rest_of(shown[0]) == shown[-1].removeprefix(shown[0])


async def test_a_text_that_does_not_begin_an_answer_of_the_form_is_refused_by_name(rig: Rig) -> None:
    for text in ('{"town', "Paris", '{"city":"Oslo","old":true,"people":1} '):
        with pytest.raises(InvalidRequest, match="does not begin") as caught:
            await rig.answer(chat("Which city?", response_format=FORM), continue_text=text)
        assert caught.value.param == "continue_text"


async def test_a_call_that_must_come_is_gone_on_with_too(rig: Rig) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": CITY, "strict": True}}
    asked = request_of(
        chat("Oslo?", tools=[tool], tool_choice="required", max_tokens=80, continue_text="<tool_call>\n{")
    )
    answer = await rig.model.respond(asked)
    assert answer.body is not None
    [choice] = json.loads(answer.body)["choices"]
    [call] = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "look_up")
    assert [*json.loads(call["function"]["arguments"])] == CITY["required"]


async def test_a_stop_string_is_seen_across_every_seam(rig: Rig) -> None:
    shown = await rig.shown({"prompt": STORY})
    begin, end = len(shown[12]) - 3, len(shown[15]) + 2
    stop = shown[-1][begin:end]
    assert shown[-1].find(stop) == begin
    for text in shown[12:16:3]:  # each ends inside of the stop string
        assert await rig.answer({"prompt": STORY}, continue_text=text, stop=stop) == Ended("", "stop")
    rest = await rig.answer({"prompt": STORY}, continue_text=shown[8], stop=stop)
    assert rest == Ended(shown[-1][len(shown[8]) : begin], "stop")
