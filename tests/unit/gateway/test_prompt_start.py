"""What is the same for all turns of a chat, and for no other."""

from typing import Any

import orjson
import pytest

from genkan.gateway.prompt_start import By, prompt_start
from genkan.wire.chat import ChatRequest, CompletionRequest

SYSTEM = {"role": "system", "content": "You are the assistant of a small inn."}
HELLO = {"role": "user", "content": "Is there a room for tonight?"}


def of(*messages: dict[str, Any], tenant: str = "acme", max_bytes: int = 2048, by: By = "chat", **more: Any) -> bytes:
    body = {"model": "m", "messages": list(messages), **more}
    return prompt_start(ChatRequest.parse(orjson.dumps(body)), tenant, max_bytes, by)


def of_prompt(prompt: Any, max_bytes: int = 64) -> bytes:
    request = CompletionRequest.parse(orjson.dumps({"model": "m", "prompt": prompt}))
    return prompt_start(request, "acme", max_bytes)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def test_all_turns_of_a_chat_begin_alike() -> None:
    turns = [SYSTEM, HELLO]
    first = of(*turns)
    for number in range(8):
        turns += [{"role": "assistant", "content": f"Answer {number}"}, user(f"Question {number}")]
        assert of(*turns) == first


def test_it_is_the_same_in_every_process() -> None:
    assert of(SYSTEM, HELLO).hex() == "d3933c2d462fae28c922ab88c4969f38"


@pytest.mark.parametrize(
    "other",
    [
        of(SYSTEM, user("And tomorrow?")),
        of({**SYSTEM, "content": "You are a pirate."}, HELLO),
        of(HELLO),
        of({**SYSTEM, "role": "developer"}, HELLO),
        of(SYSTEM, HELLO, tenant="other"),
        of(SYSTEM, HELLO, cache_salt="s"),
        of(SYSTEM, HELLO, tools=[tool("book")]),
        of(SYSTEM, HELLO, prompt_cache_key="chat-7"),
        of(SYSTEM, {"role": "assistant", "content": "Welcome!"}, HELLO),
    ],
)
def test_chats_that_begin_otherwise_differ(other: bytes) -> None:
    assert other != of(SYSTEM, HELLO)


def test_what_is_not_in_the_prompt_does_not_matter() -> None:
    assert of(SYSTEM, HELLO, temperature=0.2, max_tokens=7, user="me", stream=True) == of(SYSTEM, HELLO)


def test_the_users_message_counts_after_a_system_prompt_of_any_length() -> None:
    long = {**SYSTEM, "content": "x" * 10_000}
    assert of(long, HELLO) != of(long, user("And tomorrow?"))
    assert of(long, HELLO) == of({**SYSTEM, "content": "x" * 2048 + "y"}, HELLO), "so much of it decides"
    tools = [tool(f"tool-{number}") for number in range(100)]
    assert of(SYSTEM, HELLO, tools=tools) != of(SYSTEM, user("And tomorrow?"), tools=tools)


def test_a_document_decides_and_not_the_question_after_it() -> None:
    document = "This agreement is between " * 100
    assert of(SYSTEM, user(document + "Who signed?")) == of(SYSTEM, user(document + "When does it end?"))
    assert of(user(document + "Who?"), max_bytes=4096) != of(user(document + "When?"), max_bytes=4096)


def test_parts_count_as_their_texts_do() -> None:
    def seen(url: str, question: str) -> bytes:
        image = {"type": "image_url", "image_url": {"url": url}}
        return of(user([image, {"type": "text", "text": question}]))

    assert seen("https://a.example/1.png", "What is it?") == seen("https://a.example/1.png", "What is it?")
    assert seen("https://a.example/1.png", "What is it?") != seen("https://a.example/2.png", "What is it?")
    assert seen("https://a.example/1.png", "What is it?") != seen("https://a.example/1.png", "Where is it?")
    data = "data:image/png;base64," + "A" * 100_000
    assert seen(data, "What is it?") == seen(data, "Where is it?"), "an image is read as far as the bound goes"


def test_a_text_is_the_same_as_one_part_and_with_a_mark_for_caches() -> None:
    text = {"type": "text", "text": HELLO["content"]}
    image = {"type": "image_url", "image_url": {"url": "https://a.example/1.png"}}
    mark = {"cache_control": {"type": "ephemeral"}}
    assert of(SYSTEM, user([text])) == of(SYSTEM, user([text | mark])) == of(SYSTEM, HELLO)
    assert of(SYSTEM, user([image | mark])) == of(SYSTEM, user([image])) != of(SYSTEM, HELLO)
    assert of(SYSTEM, user([text, text])) != of(SYSTEM, HELLO)


def test_messages_without_a_text_count_as_well() -> None:
    empty = {**SYSTEM, "content": ""}
    assert of(*[empty] * 100, HELLO, max_bytes=64) == of(*[empty] * 200, HELLO, max_bytes=64)
    assert of(*[empty] * 100, HELLO, max_bytes=64) != of(*[empty] * 100, user("x"), max_bytes=64)


def test_by_system_the_user_does_not_count_but_for_want_of_anything_else() -> None:
    assert of(SYSTEM, HELLO, by="system") == of(SYSTEM, user("And tomorrow?"), by="system")
    assert of(HELLO, by="system") == of(HELLO)
    assert of(HELLO, tools=[tool("a")], by="system") == of(user("x"), tools=[tool("a")], by="system")


def test_a_chat_without_a_user_is_read_as_far_as_the_bound_goes() -> None:
    answer: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}
    assert of(SYSTEM, answer) != of(SYSTEM)
    assert of({**SYSTEM, "content": "x" * 100}, max_bytes=64) == of({**SYSTEM, "content": "x" * 99}, max_bytes=64)


def test_the_bound_is_of_bytes_and_any_text_can_be_read() -> None:
    assert of(user("ß" * 32 + "a"), max_bytes=64) == of(user("ß" * 32 + "b"), max_bytes=64)
    assert of(user("ß" * 31 + "a"), max_bytes=64) != of(user("ß" * 31 + "b"), max_bytes=64)
    lone = ChatRequest.from_object({"model": "m", "messages": [user("\ud800")]})
    assert prompt_start(lone, "\ud800", 64) == prompt_start(lone, "\ud800", 64)


def test_tools_that_cannot_be_written_do_not_matter() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    raw = {"model": "m", "messages": [HELLO], "tools": [{"type": "function", "deep": deep}, "odd"]}
    assert prompt_start(ChatRequest.from_object(raw), "acme", 64)


def test_completions_go_by_the_beginning_of_the_first_prompt() -> None:
    assert of_prompt("a" * 64 + "b") == of_prompt(["a" * 64, "z"])
    assert of_prompt("a" * 63 + "b") != of_prompt("a" * 64)
    assert of_prompt([1, 2, 3]) == of_prompt([[1, 2, 3], [9]]) != of_prompt([1, 2, 4])
    assert of_prompt(list(range(1000))) == of_prompt(list(range(999)))
