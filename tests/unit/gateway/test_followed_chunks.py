"""Chunks that somebody else asked for."""

import orjson
import pytest
from flight_asks import USAGE, asked, chunk, usage_chunk

from genkan.gateway.followed_chunks import FollowedChunks
from genkan.wire.chat import CompletionRequest


def test_they_have_an_id_of_their_own_and_are_the_same_else() -> None:
    followed = FollowedChunks(asked(), "own")
    batches = [[chunk("a"), chunk("b")], [chunk("", finish_reason="stop")]]
    passed = [data for batch in batches for data in followed.take(batch)]
    assert passed == [data.replace(b"chatcmpl-theirs", b"chatcmpl-own") for batch in batches for data in batch]


def test_completions_have_other_ids() -> None:
    request = CompletionRequest.parse(b'{"model":"m","prompt":"p","stream":true}')
    (data,) = FollowedChunks(request, "own").take([b'{"choices":[{"text":"a"}],"id" : "cmpl-\\u0031"}'])
    assert orjson.loads(data) == {"choices": [{"text": "a"}], "id": "cmpl-own"}


@pytest.mark.parametrize(
    "text",
    ['"id":"chatcmpl-theirs"', '\\"id\\":\\"chatcmpl-theirs\\"', "chatcmpl-theirs", '"choices":[]', ',"usage":null'],
)
def test_what_a_text_says_is_left_as_it_is(text: str) -> None:
    followed = FollowedChunks(asked(), "own")
    followed.take([chunk("a")])
    (data,) = followed.take([chunk(text)])
    assert orjson.loads(data)["choices"][0]["delta"]["content"] == text
    assert orjson.loads(data)["id"] == "chatcmpl-own"


def test_ids_of_tool_calls_stay() -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}
    (data,) = FollowedChunks(asked(), "own").take([chunk("", tool_calls=[call])])
    assert orjson.loads(data)["choices"][0]["delta"]["tool_calls"] == [call]


def test_a_stream_without_an_id_goes_on_without() -> None:
    data = b'{"choices":[{"index":0,"delta":{"content":"a"}}]}'
    assert FollowedChunks(asked(), "own").take([data]) == [data]


def test_usage_only_for_who_asked_for_it() -> None:
    null = chunk("a").replace(b"}]}", b'}],"usage":null}')
    without, with_usage = FollowedChunks(asked(), "own"), FollowedChunks(asked(include_usage=True), "own")
    assert [orjson.loads(data) for data in without.take([null, usage_chunk()])] == [
        {**orjson.loads(chunk("a")), "id": "chatcmpl-own"}
    ]
    assert without.end(USAGE) == []
    (passed,) = with_usage.take([null, usage_chunk()])
    assert b'"usage":null' in passed
    (last,) = with_usage.end(USAGE)
    told = orjson.loads(last)
    assert told == {
        "id": "chatcmpl-own",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": {
            **USAGE,
            "prompt_tokens_details": {"cached_tokens": 5},
            "cached_tokens": 5,
            "cached": True,
            "cost_usd": 0.0,
        },
    }


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}])
def test_usage_that_is_not_known_is_not_told(usage: dict[str, object] | None) -> None:
    followed = FollowedChunks(asked(include_usage=True), "own")
    followed.take([chunk("a")])
    assert followed.end(usage) == []
