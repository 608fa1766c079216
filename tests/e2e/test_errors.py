"""Every wrong request gets an error of the client's kind, in OpenAI's shape, at once."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from e2e import malformed_fields, malformed_http
from e2e.live_server import LiveServer
from e2e.malformed import BODY_LIMIT, GOOD, GOOD_TEXT, WINDOW, Malformed

ANSWERED_WITHIN_S = 1.0
CORPUS = [*malformed_http.requests(), *malformed_fields.requests()]


@pytest.fixture(scope="module")
def connection(server: LiveServer) -> Iterator[http.client.HTTPConnection]:
    """One connection for one request after the other, as long as the server keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    yield connection
    connection.close()


def answer(connection: http.client.HTTPConnection, request: Malformed) -> tuple[http.client.HTTPResponse, bytes]:
    # Unlike httpx, this client sends all of a body before it reads, changes no path and adds no content type.
    connection.putrequest(request.method, request.path, skip_accept_encoding=True)
    headers = dict(request.headers)
    if request.chunk_bytes:
        headers["transfer-encoding"] = "chunked"
    else:
        headers.setdefault("content-length", str(len(request.body)))
    for name, value in headers.items():
        connection.putheader(name, value)
    if request.chunk_bytes:
        connection.endheaders(request.pieces(), encode_chunked=True)
    else:
        connection.endheaders(request.body)
    response = connection.getresponse()
    return response, response.read()


def test_the_corpus_is_large_and_every_name_in_it_is_its_own() -> None:
    assert len({request.name for request in CORPUS}) == len(CORPUS)
    assert len(CORPUS) >= 200


@pytest.mark.parametrize("request_", CORPUS, ids=lambda request: request.name.encode("unicode_escape").decode())
def test_a_malformed_request_is_refused_by_name_and_at_once(
    connection: http.client.HTTPConnection, request_: Malformed
) -> None:
    began = time.monotonic()
    response, body = answer(connection, request_)
    seconds = time.monotonic() - began

    assert response.status == request_.status, body[:500]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    content = json.loads(body)
    assert list(content) == ["error"]
    error = content["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["code"], error["param"]) == (request_.code, request_.param), error["message"]
    for part in request_.mentions:
        assert part in error["message"]
    assert 0 < len(error["message"]) < 1000
    assert seconds < ANSWERED_WITHIN_S
    if response.status == 405:
        assert response.headers["allow"] in error["message"]


def test_a_good_request_works_after_all_of_them(server: LiveServer, http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", json=GOOD)
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["completion_tokens"] == 1
    server.assert_clean_log()
    assert '"level": "error"' not in server.log


def test_the_window_can_be_filled_to_its_last_token(http: httpx.Client) -> None:
    # One token more is in the corpus. The prompt is short, and the answer that was asked for ends early.
    body = {**GOOD_TEXT, "prompt": [5], "max_tokens": WINDOW - 1, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as stream:
        assert stream.status_code == 200
        assert next(stream.iter_lines()).startswith("data: {")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_sdk_raises_bad_request_for_a_prompt_that_is_too_long(sdk: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "hello " * 20_000}], stream=stream
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert str(WINDOW) in caught.value.message


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"n": 9}, "n", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_tokens": "five"}, "max_tokens", "invalid_type"),
        ({"extra_body": {"beam_width": 2}}, "beam_width", "unsupported_parameter"),
        ({"extra_body": {"genkan": {"cache": "sometimes"}}}, "genkan.cache", "invalid_value"),
    ],
)
def test_the_sdk_raises_bad_request_that_names_the_option(
    sdk: openai.OpenAI, options: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="default", messages=[{"role": "user", "content": "hi"}], **options)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


def test_the_sdk_raises_not_found_for_an_unknown_model(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert "no-such-model" in caught.value.message


def test_the_sdk_raises_not_found_for_a_path_that_is_not_there(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.moderations.create(input="hi")
    assert caught.value.code == "unknown_url"


def test_the_sdk_raises_a_status_error_for_a_body_over_the_limit(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model="default", messages=[{"role": "user", "content": "x" * (BODY_LIMIT + 1)}])
    assert caught.value.status_code == 413
    assert caught.value.body is not None
    assert "request_too_large" in str(caught.value.body)
