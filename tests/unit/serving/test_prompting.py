"""From a request to token ids."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from local_answers import chat, completion

from genkan.errors import ContextTooLong, InvalidRequest, UnsupportedOption
from genkan.serving.prompting import Prompt, Prompting
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import GenerationRequest

if TYPE_CHECKING:
    from genkan.engine.load.gguf import GgufFile

pytestmark = pytest.mark.anyio
LIMIT = 64


async def prompts(tokenizer: TextTokenizer, request: GenerationRequest) -> list[Prompt]:
    return await Prompting(tokenizer, LIMIT).prompts(request, None)


async def test_a_prompt_is_its_text_and_its_ids(tokenizer: TextTokenizer) -> None:
    assert await prompts(tokenizer, completion(["Hello", " a b"])) == [
        Prompt(tokenizer.encode("Hello"), "Hello"),
        Prompt(tokenizer.encode(" a b"), " a b"),
    ]


async def test_ids_are_taken_as_they_are(tokenizer: TextTokenizer) -> None:
    assert await prompts(tokenizer, completion([[5, 6], [7]])) == [Prompt([5, 6], None), Prompt([7], None)]


@pytest.mark.parametrize("parts", [1, 16])
async def test_long_prompts_do_not_hold_up_the_event_loop(tokenizer: TextTokenizer, parts: int) -> None:
    text = "a quick brown fox " * (20_000 // parts)
    whole = Prompting(tokenizer, 1_000_000)  # encoded to the end, which takes a while
    task = asyncio.create_task(whole.prompts(completion([text] * parts), None))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert all(len(prompt.ids) > LIMIT for prompt in await task)


async def test_a_long_chat_does_not_either(tokenizer: TextTokenizer) -> None:
    message = {"role": "user", "content": "a quick brown fox " * 20_000}
    whole = Prompting(tokenizer, 1_000_000)
    task = asyncio.create_task(whole.prompts(chat(messages=[message]), None))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_more_messages_than_the_window_has_tokens_are_refused_unrendered(tokenizer: TextTokenizer) -> None:
    messages = [{"role": "user", "content": ""}] * (LIMIT + 1)
    with pytest.raises(ContextTooLong, match=f"{LIMIT} tokens.*at least {LIMIT + 1} in the prompt, 7 for"):
        await prompts(tokenizer, chat(messages=messages, max_tokens=7))
    assert len(await prompts(tokenizer, chat(messages=messages[:LIMIT]))) == 1


async def test_a_model_without_a_template_completes_and_does_not_chat(smollm: "GgufFile") -> None:
    metadata: dict[str, Any] = dict(smollm.metadata)
    del metadata["tokenizer.chat_template"]
    base = TextTokenizer(metadata)
    assert await prompts(base, completion("Hello"))
    with pytest.raises(UnsupportedOption, match="no chat template") as caught:
        await prompts(base, chat())
    assert caught.value.param == "messages"


async def test_a_template_that_writes_nothing_makes_no_prompt(smollm: "GgufFile") -> None:
    empty = TextTokenizer({**smollm.metadata, "tokenizer.chat_template": "{% if false %}{% endif %}"})
    with pytest.raises(InvalidRequest, match="makes nothing of these messages"):
        await prompts(empty, chat())


async def test_a_chat_has_the_beginning_that_its_template_writes_and_no_second_one(smollm: "GgufFile") -> None:
    metadata = {**smollm.metadata, "tokenizer.ggml.add_bos_token": True}
    tokenizer = TextTokenizer(metadata)
    (chatted,), (completed,) = await prompts(tokenizer, chat()), await prompts(tokenizer, completion("Hi"))
    assert chatted.text is not None
    assert chatted.ids == tokenizer.encode(chatted.text, add_bos=False)
    assert completed.ids == [metadata["tokenizer.ggml.bos_token_id"], *tokenizer.encode("Hi", add_bos=False)]
