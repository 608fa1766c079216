"""Asking a server for its models."""

import asyncio
import gzip
import socket

import pytest
from model_servers import Handler, answering, hanging_up, having, listed, model_server, silent

from genkan.config import HealthConfig, OpenAiUpstreamConfig, Timeouts
from genkan.errors import ConnectFailed, TimedOut, UpstreamBroken, UpstreamForbidden, UpstreamUnauthorized
from genkan.upstream.credentials import Credential
from genkan.upstream.model_list import is_listed, list_models, question_session

pytestmark = pytest.mark.anyio

KEY = Credential("sk-9fQ2mZ7cLxV4tB8nR1wK6yH3")


def upstream(
    base_url: str, timeout_s: float = 5.0, connect_s: float = 5.0, headers: dict[str, str] | None = None
) -> OpenAiUpstreamConfig:
    return OpenAiUpstreamConfig(
        name="up",
        kind="openai",
        base_url=base_url,
        headers=headers or {},
        health=HealthConfig(timeout_s=timeout_s),
        timeouts=Timeouts(connect_s=connect_s),
    )


async def models_of(handler: Handler, timeout_s: float = 5.0) -> frozenset[str] | None:
    async with model_server(handler) as server, question_session() as session:
        return await list_models(session, upstream(server.base_url, timeout_s), KEY)


async def test_returns_the_names() -> None:
    assert await models_of(having("a", "b/c", "models/d")) == frozenset({"a", "b/c", "models/d"})


async def test_asks_as_the_gateway_would() -> None:
    async with model_server(having("a")) as server, question_session() as session:
        await list_models(session, upstream(server.base_url, headers={"X-Title": "genkan"}), KEY)
        await list_models(session, upstream(server.base_url), Credential())
        first, second = (request.lower().split("\r\n") for request in server.requests)
    assert first[0] == "get /v1/models http/1.1"
    assert {f"authorization: bearer {KEY.value}".lower(), "accept-encoding: identity", "x-title: genkan"} <= set(first)
    assert not any(line.startswith(("authorization", "cookie")) for line in second)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"object":"list","data":null}', set()),
        (b'{"data":[]}', set()),
        (b'[{"id":"a"},{"id":"b"}]', {"a", "b"}),
        (b'{"data":[{"id":"a"},{"id":7},{"name":"b"},null,{"id":""},{"id":"\\u001b[2Jc"}]}', {"a"}),
    ],
    ids=["null", "none", "a bare list", "odd entries"],
)
async def test_reads_what_other_servers_make_of_the_list(body: bytes, names: set[str]) -> None:
    assert await models_of(answering(body)) == frozenset(names)


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
async def test_a_server_without_the_path_does_not_tell(status: str) -> None:
    assert await models_of(answering(b"<html>", status)) is None


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (answering(b"", "401 Unauthorized"), 401),
        (answering(b'[{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}]', "400 Bad Request"), 400),
    ],
)
async def test_a_refused_key_is_told_with_its_status(handler: Handler, status: int) -> None:
    with pytest.raises(UpstreamUnauthorized, match=f"refused with status {status}") as caught:
        await models_of(handler)
    assert caught.value.upstream == "up"


async def test_a_key_that_may_not_list_models_may_do_other_things() -> None:
    with pytest.raises(UpstreamForbidden, match="refused with status 403"):
        await models_of(answering(b"", "403 Forbidden"))


BIG = b'{"data":[{"id":"' + b"x" * (8 << 20) + b'"}]}'


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (answering(b"", "302 Found", "location: http://127.0.0.1:1/\r\n"), "status 302"),
        (answering(b"bad", "400 Bad Request"), "status 400"),
        (answering(b"", "503 Busy"), "status 503"),
        (answering(b"<html>welcome</html>"), "not answer with a list"),
        (answering(b'{"models":[]}'), "not answer with a list"),
        (answering(b'{"data":{"id":"a"}}'), "not answer with a list"),
        (answering(b"7"), "not answer with a list"),
        (answering(gzip.compress(listed("a")), headers="content-encoding: gzip\r\n"), "packed"),
        (answering(BIG), "more than 8 MiB"),
        (hanging_up(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP"),
        (hanging_up(b""), "breaks off"),
        (hanging_up(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), "breaks off"),
    ],
    ids=["redirect", "400", "503", "HTML", "other", "object", "number", "gzip", "big", "SSH", "nothing", "cut"],
)
async def test_what_is_no_list_is_a_broken_upstream(handler: Handler, says: str) -> None:
    with pytest.raises(UpstreamBroken, match=says):
        await models_of(handler)


async def test_a_redirect_is_not_followed() -> None:
    async with model_server(having("a")) as canary:
        with pytest.raises(UpstreamBroken):
            await models_of(answering(b"", "307 Temporary Redirect", f"location: {canary.base_url}/models\r\n"))
        assert canary.requests == []


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"], ids=["head", "body"])
async def test_silence_has_a_limit(beginning: bytes) -> None:
    with pytest.raises(TimedOut) as caught:
        await models_of(silent(beginning), timeout_s=0.05)
    assert (caught.value.phase, caught.value.limit_s) == ("total", 0.05)


async def test_connecting_has_a_limit_that_holds_for_tls_too() -> None:
    async def never_says_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(never_says_hello, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, question_session() as session:
        with pytest.raises(TimedOut) as caught:
            await list_models(session, upstream(f"https://127.0.0.1:{port}/v1", connect_s=0.05), KEY)
    assert (caught.value.phase, caught.value.limit_s) == ("connect", 0.05)


async def test_a_closed_port_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with question_session() as session:
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port} cannot be reached .*refused"):
            await list_models(session, upstream(f"http://127.0.0.1:{port}/v1"), KEY)


async def test_a_server_without_tls_is_told_apart() -> None:
    async def speaks_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(speaks_first, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, question_session() as session:
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port} does not speak TLS"):
            await list_models(session, upstream(f"https://127.0.0.1:{port}/v1"), KEY)


@pytest.mark.parametrize("host", ["x.invalid", f"{'a' * 64}.invalid"], ids=["unknown", "no name"])
async def test_a_host_that_cannot_be_looked_up_cannot_be_reached(host: str) -> None:
    async with question_session() as session:
        with pytest.raises(ConnectFailed):
            await list_models(session, upstream(f"http://{host}/v1"), KEY)


@pytest.mark.parametrize(
    ("name", "models", "listed_there"),
    [
        ("gemini-2.5-flash", {"models/gemini-2.5-flash"}, True),
        ("models/gemini-2.5-flash", {"gemini-2.5-flash"}, True),
        ("models/gemini-2.5-flash", {"models/gemini-2.5-flash"}, True),
        ("llama3.2", {"llama3.2:latest"}, True),
        ("llama3.2", {"llama3.2:1b"}, False),
        ("gpt-4.1", {"gpt-4.1-mini"}, False),
        ("a", set(), False),
    ],
)
def test_knows_a_name_however_its_server_lists_it(name: str, models: set[str], listed_there: bool) -> None:
    assert is_listed(name, frozenset(models)) is listed_there
