"""What the fuzzer takes for a fault, and what not; and that its inputs are what their numbers say."""

import asyncio
import json
from typing import Any

import pytest
from fuzz.answers import Answer, Malformed, fault, is_overload, read_answer
from fuzz.inputs import Input, make_input

GIVEN = Input(0, "fields")
ERROR: dict[str, Any] = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": "x"}}


def answer(status: int, content: Any, kind: str = "application/json", **headers: str) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(status, {"content-type": kind, "x-request-id": "req_1", **headers}, body)


async def read(data: bytes, *, is_head: bool = False) -> Answer | None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_answer(reader, is_head=is_head)


@pytest.mark.parametrize(
    "right",
    [
        answer(200, {}),
        answer(201, []),
        answer(400, ERROR),
        answer(200, b"data: {}\n\ndata: [DONE]\n\n", "text/event-stream"),
        answer(200, b"# HELP", "text/plain"),
    ],
)
def test_what_is_right(right: Answer) -> None:
    assert fault(GIVEN, right) is None


@pytest.mark.parametrize(
    "wrong",
    [
        answer(500, ERROR),
        answer(502, ERROR),
        answer(503, ERROR),  # which says when to come back, if it is of overload
        answer(302, ERROR),
        answer(400, {"error": "no"}),
        answer(400, {"error": {"message": "No."}}),
        answer(400, {"error": {**ERROR["error"], "message": ""}}),
        answer(400, {"error": {**ERROR["error"], "param": 5}}),
        answer(400, b"not found", "text/plain"),
        answer(400, b"{"),
        answer(200, b"{"),
        answer(200, b"data: {}\n\n", "text/event-stream"),
        Answer(200, {"content-type": "application/json"}, b"{}"),
    ],
)
def test_what_is_wrong(wrong: Answer) -> None:
    assert fault(GIVEN, wrong) is not None


def test_overload_is_told_apart() -> None:
    overloaded = Answer(503, {"content-type": "application/json", "x-request-id": "r", "retry-after": "1"}, b"")
    overloaded.body = json.dumps(ERROR).encode()
    assert is_overload(overloaded)
    assert fault(GIVEN, overloaded) is None


@pytest.mark.anyio
async def test_responses_are_read_by_their_framing() -> None:
    counted = await read(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    chunked = await read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    until_end = await read(b"HTTP/1.1 200 OK\r\n\r\nhi")
    continued = await read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    assert [found.body for found in (counted, chunked, until_end, continued) if found] == [b"hi"] * 4
    head = await read(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", is_head=True)
    assert head is not None
    assert head.body == b""
    assert await read(b"") is None


@pytest.mark.anyio
@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n", b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_what_is_no_response_is_told(data: bytes) -> None:
    with pytest.raises(Malformed):
        await read(data)


@pytest.mark.anyio
async def test_a_body_that_is_cut_is_told() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi")


def test_an_input_is_what_its_seed_and_its_number_say() -> None:
    first = [make_input(1, number).on_wire("k") for number in range(300)]
    assert first == [make_input(1, number).on_wire("k") for number in range(300)]
    assert first != [make_input(2, number).on_wire("k") for number in range(300)]
    assert {make_input(1, number).kind for number in range(300)} == {"fields", "bytes", "headers", "paths", "wire"}


def test_tame_inputs_ask_a_model_for_little() -> None:
    for number in range(500):
        given = make_input(3, number, tame=True)
        if given.kind != "fields" or given.path == "/admin/keys":
            continue
        try:
            body = json.loads(given.body)
        except (ValueError, RecursionError):
            continue
        if isinstance(body, dict) and type(asked := body.get("max_tokens")) is int:
            assert asked <= 4, given.shown
