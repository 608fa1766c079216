"""``POST /batch_predict``: order, errors of single requests, and clients that leave."""

import asyncio
import json
from typing import Any

import orjson
import pytest
from accounts_at_hand import AccountsAtHand
from asgi import AsgiClient, post
from prometheus_client import CollectorRegistry
from responders import HELLO_BODY, USAGE, ScriptedResponder
from scripted_upstreams import ServedBy

from genkan.api.batch_predict import BATCH_PREDICT_PATH, MAX_REQUESTS, BatchPredictEndpoint
from genkan.api.routes import Api
from genkan.config import Config, ServerConfig
from genkan.errors import ContextTooLong, RateLimited
from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.telemetry.tally import Tally
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

pytestmark = pytest.mark.anyio
TOO_LONG = ContextTooLong(limit_tokens=10, prompt_tokens=8, max_tokens=5, param="messages")
SOON_S = 0.001


def ask(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


class Echo:
    """Answers with the request's own text, the last ones first; raises what is given for a text."""

    def __init__(self, **errors: Exception) -> None:
        self.asked: list[tuple[str, str, str]] = []  # the request's id, model and text
        self.closed = 0
        self._errors = errors

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        assert isinstance(request, ChatRequest)
        text = request.messages[0]["content"]
        self.asked.append((caller.request_id, request.model, text))
        for _ in range(max(0, 20 - len(self.asked))):
            await asyncio.sleep(0)
        if text in self._errors:
            raise self._errors[text]
        answer = Answer(body=orjson.dumps({"text": text}))
        answer.on_close(self._count)
        answer.cost_nano_usd = 1500
        return answer

    async def _count(self) -> None:
        self.closed += 1


def api(responder: Any, **how: Any) -> Api:
    endpoint = BatchPredictEndpoint(responder, ServerConfig(), **{"wait_s": SOON_S, **how})
    return Api({BATCH_PREDICT_PATH: {"POST": endpoint}}, lambda _: None, [])


async def results(responder: Any, body: Any) -> list[dict[str, Any]]:
    client = await post(api(responder), BATCH_PREDICT_PATH, body)
    assert client.status == 200, client.body
    content = json.loads(client.body)
    assert list(content) == ["results"]
    assert [one["index"] for one in content["results"]] == [*range(len(content["results"]))]
    assert [one["id"] for one in content["results"]] == [
        f"{client.headers['x-request-id']}.{index}" for index in range(len(content["results"]))
    ]
    return list(content["results"])


@pytest.mark.parametrize("is_bare", [True, False])
async def test_answers_are_in_the_order_of_the_requests(is_bare: bool) -> None:
    echo, texts = Echo(), [str(number) for number in range(40)]
    requests = [ask(text) for text in texts]
    got = await results(echo, requests if is_bare else {"requests": requests})
    assert [one["body"] for one in got] == [{"text": text} for text in texts]
    assert {one["status"] for one in got} == {200}
    assert {one["cost_usd"] for one in got} == {1.5e-6}
    assert echo.closed == 40


async def test_each_request_has_an_id_of_its_own() -> None:
    echo = Echo()
    got = await results(echo, [ask("a"), ask("b")])
    assert [(one["id"], "m", text) for one, text in zip(got, "ab", strict=True)] == echo.asked


async def test_the_model_may_be_left_out() -> None:
    echo = Echo()
    await results(echo, [{"messages": [{"role": "user", "content": "a"}]}, ask("b", model=None), ask("c")])
    assert [model for _, model, _ in echo.asked] == ["default", "default", "m"]


async def test_a_request_that_fails_harms_no_other() -> None:
    limited = RateLimited("Slow down.", unit="requests", retry_after_s=2.5)
    echo = Echo(long=TOO_LONG, limited=limited, bug=RuntimeError("of ours"))
    wrong: list[Any] = [{"model": "m"}, 5, None, ask("x", temperature=3), ask("x", stream=True)]
    got = await results(echo, [ask("a"), ask("long"), ask("limited"), ask("bug"), *wrong, ask("z")])
    assert [one["status"] for one in got] == [200, 400, 429, 500, 400, 400, 400, 400, 400, 200]
    errors = [one["body"]["error"] for one in got[1:-1]]
    assert [set(error) for error in errors] == [{"message", "type", "param", "code"}] * len(errors)
    assert [error["param"] for error in errors] == [
        "messages", None, None, "messages", "requests", "requests", "temperature", "stream",
    ]  # fmt: skip
    assert errors[0]["code"] == "context_length_exceeded"
    assert [one.get("retry_after_s") for one in got[1:4]] == [None, 2.5, None]
    assert "of ours" not in errors[2]["message"]
    assert (got[0]["body"], got[-1]["body"]) == ({"text": "a"}, {"text": "z"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "requests"),
        ({"requests": None}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": []}, "requests"),
        ([], "requests"),
        ("text", "requests"),
        ([ask()] * (MAX_REQUESTS + 1), "requests"),
        ({"requests": [ask()], "stream": True}, "stream"),
        (b'[{"model":"m"}],"x":1', None),
        (b'[{"model":"m","model":"m"}]', None),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_no_list_of_requests_is_refused(body: Any, param: str | None) -> None:
    echo = Echo()
    client = await post(api(echo), BATCH_PREDICT_PATH, body)
    assert (client.status, client.error["param"]) == (400, param)
    assert echo.asked == []


async def test_so_many_requests_are_taken_at_once() -> None:
    assert len(await results(ScriptedResponder(), [ask()] * MAX_REQUESTS)) == MAX_REQUESTS


async def test_a_body_is_passed_on_as_it_came() -> None:
    client = await post(api(ScriptedResponder()), BATCH_PREDICT_PATH, [ask()])
    assert HELLO_BODY in client.body


class Hanging:
    """Never answers."""

    def __init__(self) -> None:
        self.under_way = 0
        self.full = asyncio.Event()

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        self.under_way += 1
        if self.under_way == 8:
            self.full.set()
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            self.under_way -= 1


async def test_a_client_that_leaves_cancels_all_of_its_requests() -> None:
    hanging = Hanging()
    client = AsgiClient(api(hanging, batch_size=2))  # of which four run at once
    body = json.dumps([ask()] * 20).encode()
    asking = asyncio.create_task(client.request("POST", BATCH_PREDICT_PATH, [body]))
    await hanging.full.wait()
    client.disconnect()
    await asyncio.wait_for(asking, timeout=5)
    assert (hanging.under_way, client.status) == (0, 0)


async def test_more_than_may_wait_are_refused_as_overload() -> None:
    hanging = Hanging()
    app = api(hanging, batch_size=2)
    body = json.dumps([ask()] * MAX_REQUESTS).encode()
    clients = [AsgiClient(app) for _ in range(4)]
    calls = [asyncio.create_task(client.request("POST", BATCH_PREDICT_PATH, [body])) for client in clients]
    await hanging.full.wait()
    refused = await post(app, BATCH_PREDICT_PATH, body)
    assert (refused.status, refused.error["code"]) == (503, "server_is_overloaded")
    assert refused.headers["retry-after"] == "1"
    for client in clients:
        client.disconnect()
    await asyncio.gather(*calls)
    assert hanging.under_way == 0


async def test_each_request_is_limited_and_billed_by_itself() -> None:
    config = Config.model_validate(
        {
            "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
            "models": [{"name": "m", "upstream": "u"}],
            "prices": {"models": [{"model": "m", "input": 1.0, "output": 2.0}]},
            "limits": {"tenant": {"requests": {"limit": 3, "window_s": 3600.0}}},
        }
    )
    async with AccountsAtHand(config) as accounts:
        pipeline = accounts.pipeline(ServedBy(ScriptedResponder(), "u"))
        got = await results(pipeline, [ask("a"), ask("b"), ask("c"), ask("d")])
        rows = await accounts.rows()
    assert sorted(one["status"] for one in got) == [200, 200, 200, 429]
    assert sorted(row.id for row in rows) == sorted(one["id"] for one in got if one["status"] == 200)
    assert all(row.usage is not None and row.usage.prompt == USAGE["prompt_tokens"] for row in rows)
    assert {one["cost_usd"] for one in got if one["status"] == 200} == {7e-6}


async def test_each_item_is_counted_as_a_chat_of_its_own() -> None:
    registry, tally = CollectorRegistry(), Tally()
    metrics = GenAiMetrics(tally, ["m"], registry)
    echo = Echo(limited=RateLimited("no", unit="requests", retry_after_s=1.0), bug=ValueError("no"))
    endpoint = BatchPredictEndpoint(echo, ServerConfig(), metrics, wait_s=SOON_S)
    table = Api({BATCH_PREDICT_PATH: {"POST": endpoint}}, lambda _: None, [])
    await post(table, BATCH_PREDICT_PATH, [ask("a"), ask("b"), ask("limited"), ask("bug"), ask(stream=True)])
    tally.flush()
    name = "gen_ai_server_request_duration_seconds_count"
    labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "genkan", "gen_ai_request_model": "m"}
    errors = ("", "rate_limit_exceeded", "internal_error", "unsupported_parameter")
    counted = [registry.get_sample_value(name, {**labels, "error_type": error}) for error in errors]
    assert counted == [2, 1, 1, None], "what was not asked is no operation"
