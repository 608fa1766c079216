"""An answer as it comes: times of texts, usage, cache and cost, and what is wrong with it."""

import json
from typing import Any

import pytest

from genkan.bench.client.outcome import Seen
from genkan.bench.client.reading import Reading

SSE = {b"content-type": b"text/event-stream; charset=utf-8"}
JSON = {b"content-type": b"application/json"}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "cost_usd": 0.25,
}


def event(**chunk: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def delta(**fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": fields}])


def read(status: int, headers: dict[bytes, bytes], *pieces: bytes) -> tuple[Seen, Reading]:
    """Pieces come at 1 s, 2 s and so on; the end a second after the last."""
    seen = Seen()
    reading = Reading(seen)
    reading.head(status, headers)
    now_s = 0.0
    for now_s, piece in enumerate(pieces, 1):
        reading.body(piece, now_s)
    reading.end(now_s + 1)
    return seen, reading


def test_only_events_with_text_are_tokens() -> None:
    seen, _ = read(
        200,
        SSE,
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(reasoning_content="b") + b": a comment\n\n",
        event(choices=[{"index": 0, "text": "c"}]),
        delta(tool_calls=[{"index": 0}]),
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        event(choices=[], usage=USAGE),
        b"data: [DONE]\n\n",
    )
    assert seen.token_s == [2, 3, 4, 5]
    assert (seen.error, seen.ended_s) == (None, 9)
    assert (seen.prompt_tokens, seen.completion_tokens, seen.cached_tokens, seen.cost_usd) == (9, 3, 4, 0.25)


def test_an_event_may_come_in_pieces_and_counts_when_it_is_whole() -> None:
    whole = delta(content="Xin chào, 안녕")
    seen, _ = read(200, SSE, whole[:20], whole[20:41], whole[41:] + b"data: [DONE]\n\n")
    assert seen.token_s == [3]


def test_a_whole_answer_says_its_usage_and_headers_say_cache_and_cost() -> None:
    headers = {**JSON, b"x-genkan-cache": b"hit-exact", b"x-genkan-cost-usd": b"0.000000123"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None}
    seen, _ = read(200, headers, json.dumps({"usage": usage}).encode())
    assert (seen.cache, seen.cost_usd, seen.prompt_tokens, seen.cached_tokens) == ("hit-exact", 1.23e-7, 9, 0)
    assert (seen.token_s, seen.error) == ([], None)


def test_the_native_answer_says_its_cost() -> None:
    seen, _ = read(200, JSON, b'{"content": "Yes.", "cost_usd": 0.5, "usage": null}')
    assert (seen.cost_usd, seen.prompt_tokens, seen.error) == (0.5, None, None)


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ((delta(content="a"),), "a stream without its end"),
        ((delta(content="a"), event(error={"code": "upstream_failed", "message": "!"})), "error event upstream_failed"),
        ((event(error="no"), b"data: [DONE]\n\n"), "error event"),
    ],
)
def test_a_stream_that_goes_wrong(pieces: tuple[bytes, ...], error: str) -> None:
    assert read(200, SSE, *pieces)[0].error == error


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": ["a"]},
        {"choices": 5},
        {"choices": [{"delta": "a"}]},
        {"usage": {"prompt_tokens": "9", "completion_tokens": -1, "prompt_tokens_details": [4], "cost_usd": True}},
        {"choices": [], "error": None},
    ],
)
def test_what_a_server_says_that_is_no_count_and_no_text_is_passed_over(chunk: dict[str, Any]) -> None:
    """One server's odd chunk must not end the run, with all that others were asked."""
    seen, _ = read(200, SSE, event(**chunk), b"data: [DONE]\n\n")
    assert (seen.error, seen.token_s, seen.cached_tokens) == (None, [], 0)
    assert (seen.prompt_tokens, seen.completion_tokens, seen.cost_usd) == (None, None, None)


def test_an_error_with_status_200_is_one() -> None:
    seen, _ = read(200, JSON, b'{"error": {"code": "overloaded", "message": "Later."}}')
    assert seen.error == "an error with status 200 overloaded"


@pytest.mark.parametrize("cost", [b"nan", b"inf", b"free"])
def test_a_cost_that_is_no_number_is_an_error(cost: bytes) -> None:
    with pytest.raises(ValueError, match=r"cost|convert"):
        Reading(Seen()).head(200, {**JSON, b"x-genkan-cost-usd": cost})


def test_a_refusal_is_of_a_kind_and_says_why() -> None:
    seen, reading = read(429, JSON, b'{"error": {"code": null, "type": "rate_limit", "message": "Too many."}}')
    assert (seen.error, reading.message()) == ("status 429 rate_limit", "Too many.")


def test_an_error_page_of_something_else_is_told_in_short() -> None:
    seen, reading = read(502, {b"content-type": b"text/html"}, b"<h1>Bad gateway</h1>" * 100)
    assert seen.error == "status 502"
    assert reading.message().startswith("<h1>Bad gateway</h1>")
    assert len(reading.message()) == 200


@pytest.mark.parametrize(("headers", "piece"), [(JSON, b"[]"), (JSON, b"<html>"), (SSE, b"data: {\n\n")])
def test_what_is_no_answer_is_an_error(headers: dict[bytes, bytes], piece: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        read(200, headers, piece)


def test_a_body_without_end_is_not_kept() -> None:
    reading = Reading(Seen())
    reading.head(200, JSON)
    for _ in range(64):
        reading.body(bytes(1 << 20), 0.0)
    with pytest.raises(ValueError, match="64 MiB"):
        reading.body(b"x", 0.0)
