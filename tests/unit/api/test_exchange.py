"""Reading bodies within their limits, and sending each response once."""

import asyncio
from typing import Any

import pytest
from asgi import JSON_HEADERS, AsgiClient
from hypothesis import given
from hypothesis import strategies as st

from genkan.api.exchange import ClientGone, Exchange
from genkan.api.routes import Api
from genkan.errors import BodyTimeout, InvalidRequest
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio
LIMIT = 100
Event = dict[str, Any] | BaseException | None


def echoing(timeout_s: float = 5.0) -> Api:
    async def echo(exchange: Exchange) -> None:
        await exchange.reply(await exchange.json_body(limit_bytes=LIMIT, timeout_s=timeout_s))

    return Api({"/echo": {"POST": echo, "GET": echo}}, lambda _: None, [])


async def test_joins_a_body_that_comes_in_pieces() -> None:
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"ab", b"", b"cd"])
    assert (client.status, client.body) == (200, b"abcd")


async def test_accepts_a_body_of_exactly_the_limit_and_refuses_one_byte_more() -> None:
    assert (await AsgiClient(echoing()).request("POST", "/echo", [b"x" * LIMIT])).status == 200
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"x" * LIMIT, b"x"])
    assert client.status == 413
    assert client.error["code"] == "request_too_large"
    assert str(LIMIT) in client.error["message"]
    assert client.headers["connection"] == "close"


async def test_refuses_a_declared_size_beyond_the_limit_and_names_it() -> None:
    headers = [*JSON_HEADERS, (b"content-length", b"5000000")]
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"x"], headers)
    assert client.status == 413
    assert "5000000" in client.error["message"]


async def test_reads_the_rest_of_a_body_that_is_too_large_so_that_the_answer_arrives() -> None:
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"x" * 60 for _ in range(50)])
    assert (client.status, client.unsent) == (413, [])


async def test_does_not_wait_for_a_body_that_is_declared_absurdly_large() -> None:
    headers = [*JSON_HEADERS, (b"content-length", b"1" + b"0" * 15)]
    client = await asyncio.wait_for(
        AsgiClient(echoing()).request("POST", "/echo", [b"x"], headers, hold_body=True), timeout=1
    )
    assert client.status == 413


async def test_does_not_wait_for_the_rest_of_a_large_body_that_does_not_come() -> None:
    headers = [*JSON_HEADERS, (b"content-length", b"1000")]
    client = await asyncio.wait_for(
        AsgiClient(echoing()).request("POST", "/echo", [b"x"], headers, hold_body=True), timeout=1
    )
    assert client.status == 413


async def test_gives_up_on_a_body_that_does_not_come() -> None:
    client = await AsgiClient(echoing(timeout_s=0.01)).request("POST", "/echo", [b"x"], hold_body=True)
    assert client.status == 408
    assert "0.01 s" in client.error["message"]


async def test_answers_nobody_when_the_client_goes_away_while_sending() -> None:
    client = AsgiClient(echoing())
    client.disconnect()
    await client.request("POST", "/echo", [b"x"], hold_body=True)
    assert client.status == 0


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b'Application/JSON;charset="UTF-8"',
        b"application/json ; charset=utf8; x=y",
    ],
)
async def test_accepts_json_in_utf8(value: bytes) -> None:
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"{}"], [(b"content-type", value)])
    assert client.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/vnd.bentoml+pickle")],
        [(b"content-type", b"application/jsonp")],
        [(b"content-type", b"application/json; charset=utf-16")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")],
        [(b"content-type", b"multipart/form-data; boundary=x")],
    ],
)
async def test_refuses_every_other_media_type(headers: list[tuple[bytes, bytes]]) -> None:
    client = await AsgiClient(echoing()).request("POST", "/echo", [b"{}"], headers)
    assert client.status == 415
    assert client.error["code"] == "unsupported_media_type"


async def test_every_response_has_an_id_of_its_own() -> None:
    ids = {(await AsgiClient(echoing()).request("POST", "/echo", [b"{}"])).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(request_id.startswith("req_") for request_id in ids)


async def test_a_head_response_has_the_length_but_no_body() -> None:
    async def hello(exchange: Exchange) -> None:
        await exchange.reply(b"hello")

    client = await AsgiClient(Api({"/": {"GET": hello}}, lambda _: None, [])).request("HEAD", "/")
    assert (client.status, client.headers["content-length"], client.body) == (200, "5", b"")


async def test_client_gone_is_raised_to_the_endpoint() -> None:
    seen: list[type[BaseException]] = []

    async def endpoint(exchange: Exchange) -> None:
        try:
            await exchange.json_body(limit_bytes=LIMIT, timeout_s=5)
        except ClientGone as error:
            seen.append(type(error))
            raise

    client = AsgiClient(Api({"/": {"POST": endpoint}}, lambda _: None, []))
    client.disconnect()
    await client.request("POST", "/", [b"x"], hold_body=True)
    assert seen == [ClientGone]


def receiving(*events: Event) -> Exchange:
    """An exchange to which these come: a message, an error, or a wait; at last nothing more."""
    coming = list(events)

    async def receive() -> dict[str, Any]:
        while coming:
            event = coming.pop(0)
            if isinstance(event, BaseException):
                raise event
            if event is not None:
                return event
            await asyncio.sleep(0.001)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Any) -> None:
        raise AssertionError("nothing is answered here")

    return Exchange({"method": "POST", "path": "/", "headers": list(JSON_HEADERS)}, receive, send)


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    "events",
    [
        [piece(b"abcd")],
        [None, piece(b"abcd")],
        [piece(b"ab", more=True), piece(b"cd")],
        [piece(b"ab", more=True), None, piece(b"cd", more=True), None, {"type": "http.request"}],
        [None, piece(b"", more=True), None, None, piece(b"abcd")],
    ],
    ids=["at once", "late", "two at once", "three, with waits", "late, with waits"],
)
async def test_a_body_is_the_same_however_it_comes(events: list[Event]) -> None:
    assert await receiving(*events).json_body(limit_bytes=LIMIT, timeout_s=5) == b"abcd"


@pytest.mark.parametrize("before", [[], [None], [piece(b"a", more=True)], [piece(b"a", more=True), None]])
@pytest.mark.parametrize(
    ("event", "error"), [(GONE, ClientGone), (KeyError(), KeyError), (TimeoutError(), BodyTimeout)]
)
async def test_what_ends_a_body_does_so_at_once_and_after_a_wait(
    before: list[Event], event: Event, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await receiving(*before, event).json_body(limit_bytes=LIMIT, timeout_s=5)


@pytest.mark.parametrize("before", [[], [None], [piece(b"a", more=True)]])
async def test_a_body_that_does_not_come_is_waited_for_within_the_limit(before: list[Event]) -> None:
    with pytest.raises(BodyTimeout):
        await asyncio.wait_for(receiving(*before).json_body(limit_bytes=LIMIT, timeout_s=0.01), timeout=5)


@pytest.mark.parametrize("before", [[], [None], [piece(b"a", more=True)]])
async def test_who_waits_for_a_body_can_be_cancelled(before: list[Event]) -> None:
    reading = asyncio.create_task(receiving(*before).json_body(limit_bytes=LIMIT, timeout_s=5))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


NAMES = st.sampled_from([b"a", b"b", b"c"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=2))), NAMES)
def test_of_a_header_given_several_times_the_first_counts_and_all_can_be_had(
    headers: list[tuple[bytes, bytes]], name: bytes
) -> None:
    exchange = exchange_with(headers=headers)
    values = [value for key, value in headers if key == name]
    assert exchange.header_values(name) == values
    assert exchange.header(name) == (values[0] if values else None)


def test_until_it_is_known_who_asks_it_is_somebody_here_under_the_requests_own_name() -> None:
    exchange = exchange_with()
    assert exchange.caller == Caller(exchange.request_id)
    exchange.caller = Caller(exchange.request_id, "acme")
    assert exchange.caller.tenant == "acme"


def exchange_with(**scope: Any) -> Exchange:
    async def unused(*_: Any) -> Any:
        raise AssertionError("the query is read without the connection")

    return Exchange({"method": "GET", "path": "/", "headers": [], **scope}, unused, unused)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"", {}),
        (b"a=1", {"a": "1"}),
        (b"b=&a=x%20y+z%2B", {"a": "x y z+", "b": ""}),
        (b"a=%C3%A9%26%3D", {"a": "é&="}),
        (b"a=1=2", {"a": "1=2"}),
    ],
)
def test_decodes_the_parameters_that_are_known(query: bytes, values: dict[str, str]) -> None:
    assert exchange_with(query_string=query).query_values("a", "b") == values


@pytest.mark.parametrize(
    "query", [b"c=1", b"a=1&a=1", b"a", b"a=1&", b"&", b"a=%C3", b"a=%zz", b"a=%", b"a=\xc3\xa9", b"A=1", b"%61=1&a=2"]
)
def test_refuses_what_is_unknown_doubled_or_malformed(query: bytes) -> None:
    with pytest.raises(InvalidRequest):
        exchange_with(query_string=query).query_values("a", "b")


def test_a_scope_without_a_query_string_has_no_parameters() -> None:
    assert exchange_with().query_values("a") == {}
