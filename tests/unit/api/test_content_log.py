"""Texts of routes that ask for them in the log."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from genkan.api.content_log import ContentLog
from genkan.telemetry.redaction import MAX_CHARS
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest, CompletionRequest


def chat(*messages: dict[str, Any]) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": list(messages)})


def chunk(content: str | None, index: int = 0) -> bytes:
    return json.dumps({"choices": [{"index": index, "delta": {"content": content}}]}).encode()


def test_a_chat_is_noted_with_its_roles_and_redacted() -> None:
    fields: dict[str, object] = {}
    parts = [{"type": "text", "text": "I am a@b.example"}]
    ContentLog(fields, chat({"role": "system", "content": "Be kind."}, {"role": "user", "content": parts}))
    assert fields == {"prompt": "system: Be kind.\nuser: I am [email]"}


def test_of_a_long_chat_the_end_is_noted() -> None:
    fields: dict[str, object] = {}
    ContentLog(fields, chat({"role": "user", "content": "x" * 50_000}, {"role": "user", "content": "the end"}))
    assert len(str(fields["prompt"])) == MAX_CHARS
    assert str(fields["prompt"]).endswith("user: the end")


def test_prompts_of_ids_are_no_text() -> None:
    fields: dict[str, object] = {}
    ContentLog(fields, CompletionRequest.from_object({"model": "m", "prompt": [1, 2, 3]}))
    assert fields == {"prompt": ""}


@pytest.mark.parametrize("choice", [{"message": {"content": "Hi a@b.example"}}, {"text": "Hi a@b.example"}])
def test_a_whole_answer_is_noted(choice: dict[str, Any]) -> None:
    fields: dict[str, object] = {}
    ContentLog(fields, chat({"role": "user", "content": "?"})).follow(
        Answer(body=json.dumps({"choices": [choice]}).encode())
    )
    assert fields["answer"] == "Hi [email]"


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'{"choices": 3}', b'{"choices": [null, {"message": 4}]}'])
def test_an_answer_of_another_form_is_no_text(body: bytes) -> None:
    fields: dict[str, object] = {}
    ContentLog(fields, chat({"role": "user", "content": "?"})).follow(Answer(body=body))
    assert fields["answer"] == ""


@pytest.mark.anyio
@pytest.mark.parametrize("leaves", [False, True])
async def test_of_a_stream_what_came_is_noted_and_it_passes_as_it_is(leaves: bool) -> None:
    closed: list[bool] = []

    async def batches() -> AsyncGenerator[list[bytes], None]:
        try:
            yield [chunk("to a@b"), chunk("other", index=1)]
            yield [chunk(".example"), chunk(None)]
        finally:
            closed.append(True)

    fields: dict[str, object] = {}
    answer = Answer(batches=batches())
    ContentLog(fields, chat({"role": "user", "content": "?"})).follow(answer)
    assert answer.batches is not None
    passed = [await anext(answer.batches)]
    if not leaves:
        passed += [batch async for batch in answer.batches]
    await answer.aclose()
    assert passed == [[chunk("to a@b"), chunk("other", index=1)], [chunk(".example"), chunk(None)]][: len(passed)]
    assert fields["answer"] == ("to a@b" if leaves else "to [email]")
    assert closed == [True]
