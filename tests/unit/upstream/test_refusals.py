"""What other servers' errors mean to us, in the words they really use."""

import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from genkan.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.upstream.refusals import CONTENT_FILTER, CONTEXT_TOO_LONG, refusal, refusal_in_answer, relayed

KEY = "sk-this-is-our-own-key-1234"
NO_HEADERS: dict[str, str] = {}


def meant(status: int, body: Any = b"", headers: Mapping[str, str] = NO_HEADERS) -> UpstreamError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return refusal(status, headers, raw, upstream="up", secrets=(KEY,), now_unix_s=1_760_000_000.0)


def refused(status: int, body: Any) -> UpstreamRefused:
    error = meant(status, body)
    assert isinstance(error, UpstreamRefused)
    return error


def openai(message: str = "no", kind: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None, **more}}


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        (301, UpstreamMisconfigured, 502),
        (307, UpstreamMisconfigured, 502),
        (400, UpstreamRefused, 400),
        (401, UpstreamUnauthorized, 502),
        (402, UpstreamQuota, 503),
        (403, UpstreamForbidden, 502),
        (404, UpstreamMisconfigured, 502),
        (405, UpstreamMisconfigured, 502),
        (408, UpstreamFailed, 504),
        (409, UpstreamRefused, 409),
        (410, UpstreamMisconfigured, 502),
        (413, UpstreamRefused, 413),
        (415, UpstreamRefused, 415),
        (418, UpstreamRefused, 418),
        (422, UpstreamRefused, 422),
        (424, UpstreamFailed, 502),
        (425, UpstreamFailed, 502),
        (429, UpstreamThrottled, 429),
        (451, UpstreamForbidden, 502),
        (500, UpstreamFailed, 502),
        (502, UpstreamFailed, 503),
        (503, UpstreamFailed, 503),
        (504, UpstreamFailed, 504),
        (529, UpstreamFailed, 503),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":', openai()], ids=["empty", "page", "half", "error"])
def test_every_status_has_a_meaning_whatever_its_body_is(
    status: int, kind: type[UpstreamError], ours: int, body: Any
) -> None:
    error = meant(status, body)
    assert type(error) is kind
    assert (error.status, error.upstream) == (ours, "up")
    assert error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai("You exceeded your current quota, please check your plan", "insufficient_quota")),
        (429, openai(code="insufficient_quota")),
        (402, openai("Insufficient Balance", "unknown_error", code="invalid_request_error")),
        (403, openai("Insufficient balance.")),
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        ),
        (400, openai(code="billing_hard_limit_reached")),
    ],
)
def test_what_is_spent_is_quota(status: int, body: Any) -> None:
    assert isinstance(meant(status, body), UpstreamQuota)


def test_a_wrong_key_in_geminis_words_is_a_wrong_key() -> None:
    error = {"code": 400, "message": "API key not valid.", "details": [1, {"reason": "API_KEY_INVALID"}]}
    assert isinstance(meant(400, [{"error": error}]), UpstreamUnauthorized)


@pytest.mark.parametrize(
    "details", [None, {}, "API_KEY_INVALID", ["API_KEY_INVALID"], [{"reason": ["API_KEY_INVALID"]}]]
)
def test_geminis_words_count_in_their_place_only(details: Any) -> None:
    error = {"code": 400, "message": "the value 'API_KEY_INVALID' is not one of these", "details": details}
    assert refused(400, {"error": error}).message == error["message"]


@pytest.mark.parametrize(
    "quoted",
    [
        "insufficient balance",
        "your credit balance is too low",
        "You exceeded your current quota",
        "API_KEY_INVALID",
        "the model foo does not exist",
        "Model Not Exist",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_what_a_client_wrote_and_a_server_repeats_says_nothing_of_the_server(status: int, quoted: str) -> None:
    message = f"tool_choice: '{quoted}' is not a tool"
    error = refused(status, openai(message))
    assert (error.message, error.code) == (message, None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, UpstreamThrottled), (403, UpstreamForbidden), (500, UpstreamFailed), (401, UpstreamUnauthorized)],
)
def test_words_far_behind_the_beginning_of_a_message_count_for_nothing(status: int, kind: type[UpstreamError]) -> None:
    assert type(meant(status, openai("x" * 400 + " insufficient balance, the model does not exist"))) is kind


def test_a_key_that_may_not_use_a_model_is_told_so_by_code_and_that_is_our_own_mistake() -> None:
    error = meant(403, openai("Project `p` does not have access to model `m`", code="model_not_found"))
    assert isinstance(error, UpstreamMisconfigured)


@pytest.mark.parametrize("text", ["model ", "model x", "the model: name ", "retry in 1", "\n"])
@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
def test_a_long_message_costs_no_time(text: str, size: int) -> None:
    body = orjson.dumps(openai(text * (size // len(text))))
    began_s = time.perf_counter()
    for status in (400, 429):
        meant(status, body)
    assert time.perf_counter() - began_s < 0.1


@pytest.mark.parametrize(
    "body",
    [
        openai("too long", code="context_length_exceeded", param="messages"),
        openai("This model's maximum context length is 8192 tokens. However, …", "BadRequestError", code=400),
        {"object": "error", "message": "This model's maximum context length is 8192 tokens.", "code": 400},
        [{"error": {"code": 400, "message": "Input count (9) exceeds the maximum number of tokens allowed."}}],
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens"}},
        openai("the request exceeds the available context size", "exceed_context_size_error", code=400),
        openai("The input (9 tokens) is longer than the model's context length (8 tokens)."),
        openai("input length and `max_tokens` exceed context limit: 9 + 8 > 16"),
    ],
    ids=["openai", "vllm", "vllm, old", "gemini", "anthropic", "llama-server", "sglang", "anthropic, together"],
)  # fmt: skip
def test_a_context_that_is_too_long_is_known_in_everyones_words(body: Any) -> None:
    error = refused(400, body)
    assert (error.code, error.type) == (CONTEXT_TOO_LONG, "invalid_request_error")


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_a_filtered_prompt_has_one_code(code: str) -> None:
    assert refused(400, openai(code=code, param="prompt")).code == CONTENT_FILTER


def test_the_word_of_a_server_that_finds_fault_with_the_request_is_passed_on() -> None:
    error = refused(400, openai("temperature is too high", "BadRequestError", code="out_of_range", param="temperature"))
    assert (error.message, error.type, error.code, error.param, error.retry_after_s) == (
        "temperature is too high",
        "invalid_request_error",
        "out_of_range",
        "temperature",
        None,
    )


@pytest.mark.parametrize("body", [{"error": "no such seed"}, {"message": "no such seed"}, [{"error": "no such seed"}]])
def test_a_message_is_found_where_servers_put_it(body: Any) -> None:
    assert refused(400, body).message == "no such seed"


@pytest.mark.parametrize("body", [b"[]", b"1", b'{"error":[1]}', b'{"error":{"message":{"a":1},"param":2}}', b"\xff"])
def test_a_body_that_says_nothing_has_words_of_ours(body: bytes) -> None:
    error = refused(400, body)
    assert (error.message, error.code, error.param) == ("The model's server refused the request.", None, None)


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "86400"}, 300.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 09 Oct 2025 08:53:30 GMT"}, 10.0),
        ({"retry-after": "Thu, 09 Oct 2025 09:53:25 GMT", "date": "Thu, 09 Oct 2025 09:53:20 GMT"}, 5.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_wish_to_be_asked_later_is_kept(status: int, headers: dict[str, str], after_s: float | None) -> None:
    assert meant(status, openai(), headers).retry_after_s == after_s


@pytest.mark.parametrize("field", ["message", "code", "param"])
@pytest.mark.parametrize("before", ["", "x" * 1990, "x" * 3000], ids=["whole", "at the cut", "beyond it"])
def test_our_key_is_nowhere_in_what_is_passed_on(field: str, before: str) -> None:
    error = refused(400, openai(**{field: f"{before}{KEY} is wrong"}))
    shown = f"{error} {error.message} {error.code} {error.param}"
    assert KEY not in shown
    assert KEY[:6] not in shown
    assert len(error.message) <= 2000


def test_every_secret_is_taken_out_wherever_it_stands() -> None:
    secrets = ("project-0123456789", KEY)
    body = orjson.dumps(openai(f"{secrets[0]} with {KEY}, {KEY}", code=secrets[0], param=KEY))
    error = refusal(400, {}, body, upstream="up", secrets=secrets, now_unix_s=0)
    assert isinstance(error, UpstreamRefused)
    assert (error.message, error.code, error.param) == ("[key] with [key], [key]", None, "[key]")


@pytest.mark.parametrize("code", ["out_of_range", "Invalid-Parameter.Value", "1210", "x" * 64])
def test_a_servers_own_code_is_shown_but_not_recorded(code: str) -> None:
    error = refused(400, openai(code=code))
    assert (error.code, error.outcome) == (code, "refused")


@pytest.mark.parametrize("code", ["x" * 65, "two words", "a\nb", "out_of_range\n", "\x1b[2J", "é", "", 7, None, ["a"]])
def test_what_no_server_means_as_a_code_is_not_shown_as_one(code: Any) -> None:
    assert refused(400, openai(code=code)).code is None
    body = orjson.dumps(openai(code=code))
    error = relayed(400, body, None, upstream="engine")
    assert error is not None
    assert error.code is None


def test_without_a_key_nothing_is_taken_out() -> None:
    error = refusal(400, {}, orjson.dumps(openai("no [key]")), upstream="up", secrets=(), now_unix_s=0)
    assert error.message == "no [key]"


# --- Errors in answers with status 200 ---


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "no provider", "code": 502}, UpstreamFailed, 503),
        ({"message": "slow down", "type": "rate_limit_error"}, UpstreamThrottled, 429),
        ({"message": "Overloaded", "type": "overloaded_error"}, UpstreamFailed, 503),
        ({"message": "too high", "status": 400}, UpstreamRefused, 400),
        ({"message": "bad key", "code": 401}, UpstreamUnauthorized, 502),
        ({"code": "insufficient_quota"}, UpstreamQuota, 503),
        ({"message": "failed", "code": True}, UpstreamFailed, 502),
        ({"message": "failed", "code": 200}, UpstreamFailed, 502),
        ("llama runner has terminated", UpstreamFailed, 502),
        ([1], UpstreamFailed, 502),
        (7, UpstreamFailed, 502),
    ],
    ids=str,
)
def test_an_error_in_an_answer_means_what_its_status_would(error: Any, kind: type[UpstreamError], status: int) -> None:
    found = refusal_in_answer(error, upstream="up", secrets=(KEY,))
    assert (type(found), found.status) == (kind, status)


# --- The engine's errors ---


def test_an_error_of_our_own_is_passed_on_as_it_is() -> None:
    body = orjson.dumps(openai("busy", "service_unavailable_error", code="server_is_overloaded", param="model"))
    error = relayed(503, body, 7.0, upstream="engine")
    assert error is not None
    assert (error.message, error.status, error.type, error.code, error.param, error.retry_after_s) == (
        "busy", 503, "service_unavailable_error", "server_is_overloaded", "model", 7.0,
    )  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"1", b'{"error":"x"}', b'{"error":{"message":"x"}}', b"\xff"])
def test_what_is_not_of_our_own_making_is_not_relayed(body: bytes) -> None:
    assert relayed(500, body, None, upstream="engine") is None


@pytest.mark.parametrize(
    "message",
    ["Model Not Exist", "The model `gpt-9` does not exist or you do not have access to it.", 'model "x:1b" not found'],
)
def test_a_model_that_is_not_there_is_our_own_mistake_whatever_the_status(message: str) -> None:
    body = orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}})
    assert isinstance(refusal(400, {}, body, upstream="u", secrets=(), now_unix_s=0), UpstreamMisconfigured)


@pytest.mark.parametrize(
    "message",
    ["For this model, temperature is not supported", "'x' is not supported with this model.", "model: too big"],
)
def test_what_a_model_does_not_do_is_the_clients_affair(message: str) -> None:
    body = orjson.dumps({"error": {"message": message}})
    assert isinstance(refusal(400, {}, body, upstream="u", secrets=(), now_unix_s=0), UpstreamRefused)


def test_a_quota_by_the_minute_is_a_limit() -> None:
    message = "You exceeded your current quota, please check your plan and billing details. Please retry in 12.5s."
    error = refusal(429, {}, orjson.dumps({"error": {"message": message}}), upstream="u", secrets=(), now_unix_s=0)
    assert isinstance(error, UpstreamThrottled)
    assert error.retry_after_s == 12.5
