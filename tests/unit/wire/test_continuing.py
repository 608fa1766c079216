"""Which beginnings of answers are read, and which are refused."""

from typing import Any

import pytest

from genkan.errors import InvalidRequest
from genkan.wire.chat import ChatRequest, CompletionRequest
from genkan.wire.continuing import MAX_CONTINUED_BYTES, beginning_of


def chat(**options: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **options})


def completion(**options: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": "Once", **options})


@pytest.mark.parametrize("ask", [chat, completion])
def test_a_text_is_read_as_it_is_and_null_is_none(ask: Any) -> None:
    assert beginning_of(ask(continue_text=" a\n")) == " a\n"
    assert beginning_of(ask(continue_text=None)) is None
    assert beginning_of(ask()) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"continue_text": ""}, "empty"),
        ({"continue_text": 5}, "a string"),
        ({"continue_text": "a", "n": 2}, "'n' is 2"),
        ({"continue_text": "a", "prompt": ["b", "c"]}, "2 prompts"),
        ({"continue_text": "a", "prompt": [[1], [2], [3]]}, "3 prompts"),
        ({"continue_text": "a", "echo": True}, "echo"),
        ({"continue_text": "ă" * (MAX_CONTINUED_BYTES // 2) + "b"}, str(MAX_CONTINUED_BYTES)),
    ],
)
def test_what_begins_no_one_answer_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        beginning_of(completion(**options))
    assert caught.value.param == "continue_text"


def test_the_longest_is_counted_in_bytes() -> None:
    longest = "ă" * (MAX_CONTINUED_BYTES // 2)
    assert beginning_of(chat(continue_text=longest)) == longest
