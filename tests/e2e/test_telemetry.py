"""Logs and traces of two workers of a real server: what they say of a request, and what never shows anywhere."""

from typing import Final

import pytest
from e2e.counting_gateway import COMPLETION, PROMPT
from e2e.crowd import Reply, chat, get
from e2e.live_server import wait_until
from e2e.watched_gateway import COLLECTORS_KEY, Watched

SOON_S: Final = 20.0
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
#: In prompts, in a key that is wrong, and in the collector's header.
SECRET: Final = "canary-5d8f2a6c9b3e"
SERVER, CLIENT = 2, 3


def traced(request: bytes) -> bytes:
    return request.replace(
        b"host: localhost\r\n", f"host: localhost\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n".encode()
    )


def request_id(reply: Reply) -> str:
    return reply.headers["x-request-id"]


def test_a_request_is_one_span_and_its_attempts_are_within_it(watched: Watched) -> None:
    gateway = watched.gateway
    key = gateway.key()
    reply = gateway.ask(traced(chat(key.secret, "falls", stream=True, stream_options={"include_usage": True})))
    assert reply.status == 200
    server, *attempts = watched.spans(TRACE, 3)
    assert (server.kind, server.parent, server.name) == (SERVER, PARENT, "POST /v1/chat/completions")
    assert not server.failed
    says = server.attributes
    assert (says["http.response.status_code"], says["http.route"]) == (200, "/v1/chat/completions")
    assert (says["gen_ai.operation.name"], says["gen_ai.request.model"]) == ("chat", "falls")
    assert (says["gen_ai.response.model"], says["gen_ai.response.finish_reasons"]) == ("ok", ["stop"])
    assert (says["gen_ai.usage.input_tokens"], says["gen_ai.usage.output_tokens"]) == (PROMPT, COMPLETION)
    assert (says["genkan.attempts"], says["genkan.fallback"]) == (2, "upstream_error")
    failed, good = sorted(attempts, key=lambda span: str(span.attributes["genkan.call"]))
    assert {(span.kind, span.parent) for span in attempts} == {(CLIENT, server.id)}
    assert (failed.name, failed.failed, failed.attributes["error.type"]) == ("chat broken", True, "upstream_error")
    assert (good.failed, good.attributes["gen_ai.provider.name"]) == (False, "there")
    assert good.attributes["gen_ai.usage.output_tokens"] == COMPLETION
    sent = [gateway.upstream.attempts(name)[-1]["headers"]["traceparent"] for name in ("500-for-ever", "ok")]
    assert sent == [f"00-{TRACE}-{span.id}-01" for span in (failed, good)]
    assert watched.receiver.services == {"genkan"}
    assert watched.receiver.headers[0]["authorization"] == COLLECTORS_KEY
    assert watched.line(request_id(reply))["trace_id"] == TRACE


def test_a_line_says_all_of_a_request(watched: Watched) -> None:
    gateway = watched.gateway
    key = gateway.key()
    body = chat(key.secret, "ok", stream=True, stream_options={"include_usage": True})
    line = watched.line(request_id(gateway.ask(body)))
    assert (line["tenant"], line["key"], line["route"], line["model"]) == ("acme", key.id, "ok", "ok")
    assert (line["upstream"], line["attempts"], line["status"], line["stream"]) == ("there", 1, 200, True)
    assert (line["finish_reason"], line["usage"]["completion_tokens"]) == ("stop", COMPLETION)
    assert line["cost_usd"] == pytest.approx((2 * PROMPT + 8 * COMPLETION) / 10**6)
    assert 0 < line["ttft_ms"] <= line["ms"]
    assert line["bytes_in"] == len(body.partition(b"\r\n\r\n")[2])
    assert line["bytes_out"] > 60 * 60
    assert len(line["trace_id"]) == 32
    assert not {"prompt", "answer"} & line.keys()


def test_a_route_that_asks_for_it_has_texts_in_the_log_and_they_are_redacted(watched: Watched) -> None:
    said = "Mail jane@mail.example and sk-proj-aaaabbbbccccdddd the card 4111 1111 1111 1111"
    key = watched.gateway.key().secret
    for stream in (False, True):
        reply = watched.gateway.ask(chat(key, "open", stream=stream, messages=[{"role": "user", "content": said}]))
        line = watched.line(request_id(reply))
        assert line["prompt"] == "user: Mail [email] and [key] the card [card]"
        assert line["answer"].startswith("tok00 tok01 tok02")


def test_no_secret_shows_anywhere(watched: Watched) -> None:
    gateway, receiver = watched.gateway, watched.receiver
    key = gateway.key().secret
    prompt = [{"role": "user", "content": f"my secret is {SECRET}"}]
    replies = [
        gateway.ask(traced(request))
        for request in (
            chat(key, "ok", messages=prompt),
            chat(key, "ok", messages=prompt, stream=True),
            chat(key, "falls", messages=prompt),
            chat(key, "broken", messages=prompt),
            chat(key, "ok", messages=[*prompt, {"role": "nobody", "content": SECRET}]),
            chat(key, "ok", messages=prompt, temperature=f"{SECRET}"),
            chat(f"sk-genkan-{SECRET}", "ok", messages=prompt),
            chat(key, key),
            get(key, f"/v1/{key}?api_key={SECRET}"),
        )
    ]
    assert [reply.status for reply in replies[-4:]] == [400, 401, 404, 404]
    for reply in replies:
        watched.line(request_id(reply))
    seen = len(receiver.spans)
    gateway.ask(traced(chat(key, "ok")))
    wait_until(lambda: len(receiver.spans) > seen, SOON_S, "spans have come")
    answered = b"".join(reply.body + str(reply.headers).encode() for reply in replies[:-2])  # those say what was asked
    places = {
        "log": gateway.server.log.encode(),
        "metrics": gateway.metrics().text.encode(),
        "traces": bytes(receiver.raw),
        "answers": answered,
    }
    for place, content in places.items():
        assert SECRET.encode() not in content, place
        assert key.encode() not in content, place
        assert COLLECTORS_KEY.encode() not in content, place


def test_a_collector_that_is_down_delays_nobody_and_is_told_of_once(watched: Watched) -> None:
    gateway, receiver = watched.gateway, watched.receiver
    receiver.status = 503
    try:
        key = gateway.key().secret
        for _ in range(5):
            replies = gateway.race([traced(chat(key, "ok"))] * 20)
            assert {reply.status for reply in replies} == {200}
        wait_until(
            lambda: gateway.metrics().value("trace_spans_total", outcome="lost") >= 100, SOON_S, "spans are lost"
        )
        wait_until(lambda: "spans are lost" in gateway.server.log, SOON_S, "the log says so")
        assert gateway.server.log.count("spans are lost") <= 2  # one a worker
        assert "opentelemetry" not in gateway.server.log.lower()
    finally:
        receiver.status = 200
