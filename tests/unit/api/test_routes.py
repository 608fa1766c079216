"""The path table: who answers, and what happens to whatever an endpoint raises."""

import logging
from typing import Any

import pytest
from asgi import AsgiClient

from genkan.api.exchange import Exchange
from genkan.api.routes import BENTOML_PATHS, Api
from genkan.errors import EngineOverloaded, InvalidRequest, Unauthenticated

pytestmark = pytest.mark.anyio


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def finished(self, path: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((path, status))


async def name_path(exchange: Exchange) -> None:
    await exchange.reply(exchange.path.encode())


def raising(error: Exception) -> Api:
    async def endpoint(exchange: Exchange) -> None:
        raise error

    return Api({"/x": {"POST": endpoint}}, lambda _: None, [])


async def test_finds_exact_paths_and_everything_below_a_prefix() -> None:
    app = Api({"/a": {"GET": name_path}, "/a/*": {"GET": name_path}}, lambda _: None, [])
    assert (await AsgiClient(app).request("GET", "/a")).body == b"/a"
    assert (await AsgiClient(app).request("GET", "/a/b/c")).body == b"/a/b/c"
    assert (await AsgiClient(app).request("GET", "/a/")).status == 404
    assert (await AsgiClient(app).request("GET", "/ab")).status == 404


async def test_an_unknown_path_is_a_404_in_openai_shape() -> None:
    client = await AsgiClient(Api({}, lambda _: None, [])).request("GET", "/nowhere")
    assert client.status == 404
    assert client.error["code"] == "unknown_url"


async def test_a_wrong_method_is_a_405_that_names_the_allowed_ones() -> None:
    app = Api({"/a": {"GET": name_path}}, lambda _: None, [])
    client = await AsgiClient(app).request("DELETE", "/a")
    assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")
    assert client.error["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", sorted(BENTOML_PATHS))
async def test_posting_to_a_path_of_bentomls_is_a_405(path: str) -> None:
    client = await AsgiClient(Api({}, lambda _: None, [])).request("POST", path)
    assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")


async def test_a_bug_becomes_a_500_that_tells_nothing_and_a_log_line_that_tells_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("genkan"), "propagate", True)
    client = await AsgiClient(raising(ZeroDivisionError("secret detail"))).request("POST", "/x")
    assert client.status == 500
    assert client.error["code"] == "internal_error"
    assert b"secret" not in client.body
    assert "secret detail" in caplog.text
    assert client.headers["x-request-id"] in caplog.text


async def test_retry_after_is_there_for_overload_and_at_most_a_minute() -> None:
    assert (await AsgiClient(raising(EngineOverloaded("busy"))).request("POST", "/x")).headers["retry-after"] == "5"
    error = EngineOverloaded("busy")
    error.retry_after_s = 3600
    assert (await AsgiClient(raising(error)).request("POST", "/x")).headers["retry-after"] == "60"


async def test_an_error_message_with_a_lone_surrogate_is_still_an_answer() -> None:
    client = await AsgiClient(raising(InvalidRequest("bad \ud800 text", param="\udfff"))).request("POST", "/x")
    assert (client.status, client.error["message"], client.error["param"]) == (400, "bad ? text", "?")


async def test_who_may_not_come_in_is_told_before_the_path_is_looked_at() -> None:
    def refuse(exchange: Exchange) -> None:
        raise Unauthenticated("no")

    assert (await AsgiClient(Api({}, refuse, [])).request("GET", "/nowhere")).status == 401


async def test_observers_see_known_paths_by_name_and_all_others_as_one() -> None:
    recorder = Recorder()
    app = Api({"/a": {"GET": name_path}, "/m/*": {"GET": name_path}}, lambda _: None, [recorder])
    for path in ("/a", "/m/1", "/m/2", "/b", "/c"):
        await AsgiClient(app).request("GET", path)
    assert recorder.seen == [("/a", 200), ("/m/*", 200), ("/m/*", 200), ("other", 404), ("other", 404)]


async def test_a_client_that_goes_away_is_reported_as_499() -> None:
    async def read(exchange: Exchange) -> None:
        await exchange.json_body(limit_bytes=10, timeout_s=5)

    recorder = Recorder()
    client = AsgiClient(Api({"/a": {"POST": read}}, lambda _: None, [recorder]))
    client.disconnect()
    await client.request("POST", "/a", [b"x"], hold_body=True)
    assert recorder.seen == [("/a", 499)]


@pytest.mark.parametrize("path", ["/a", "/nowhere", "/bug"], ids=["an answer", "an error", "a bug"])
async def test_a_connection_that_turns_out_dead_when_it_is_written_to_ends_the_request_quietly(path: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async def bug(exchange: Exchange) -> None:
        raise ZeroDivisionError

    recorder = Recorder()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": [], "client": None}
    await Api({"/a": {"GET": name_path}, "/bug": {"GET": bug}}, lambda _: None, [recorder])(scope, receive, send)
    assert len(recorder.seen) == 1


async def test_a_websocket_handshake_is_refused_like_an_unknown_path() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/a", "headers": [], "client": ("127.0.0.1", 1)}
    await Api({"/a": {"GET": name_path}}, lambda _: None, [])(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 404
    assert b"unknown_url" in sent[1]["body"]
