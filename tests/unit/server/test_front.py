"""A real BentoML service behind our front: who answers what, and that BentoML's stack is not in the way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import bentoml
import pytest
from asgi import AsgiClient

from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.errors import ConfigError
from genkan.server.front import Front, FrontedService, socket_path

pytestmark = pytest.mark.anyio


async def hello(exchange: Exchange) -> None:
    await exchange.reply(b"ours")


class Raises:
    """An application that breaks before its first byte, as no Api does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError


class Process:
    def __init__(self) -> None:
        self.asgi: Any = Api({"/": {"GET": hello}, "/echo": {"POST": hello}}, lambda _: None, [])
        self.flushed = 0

    def flush_metrics(self) -> None:
        self.flushed += 1


@bentoml.service(name="small", service_class=FrontedService, traffic={"timeout": 1})
class Small:
    def __init__(self) -> None:
        self.process = Process()

    def __is_ready__(self) -> bool:
        return False

    @bentoml.api(route="/echo")  # type: ignore[untyped-decorator]
    def echo(self, text: str) -> str:
        return text


@asynccontextmanager
async def running() -> AsyncGenerator[Front, None]:
    front = Small.to_asgi()  # type: ignore[attr-defined]
    assert isinstance(front, Front)
    async with front.router.lifespan_context(front._bento):
        yield front


async def test_bentoml_answers_its_own_paths() -> None:
    async with running() as app:
        assert (await AsgiClient(app).request("GET", "/livez")).status == 200
        assert (await AsgiClient(app).request("GET", "/readyz")).status == 503
        assert b"echo" in (await AsgiClient(app).request("GET", "/schema.json")).body


async def test_metrics_are_written_before_bentoml_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    small, seen = Small.inner(), []  # type: ignore[attr-defined]
    monkeypatch.setattr(bentoml, "get_current_service", lambda: small)

    async def bentos(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], small.process.flushed))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for path in ("/livez", "/metrics"):
        await AsgiClient(Front(bentos)).request("GET", path)
    assert seen == [("/livez", 0), ("/metrics", 1)]


async def test_everything_else_is_ours_also_a_declared_api() -> None:
    async with running() as app:
        assert (await AsgiClient(app).request("POST", "/echo", [b"{}"])).body == b"ours"
        assert (await AsgiClient(app).request("GET", "/")).body == b"ours"
        assert (await AsgiClient(app).request("POST", "/livez")).error["code"] == "method_not_allowed"
        assert (await AsgiClient(app).request("GET", "/docs.json")).error["code"] == "unknown_url"


async def test_an_exception_before_the_first_byte_surfaces_at_once() -> None:
    async with running() as app:
        await AsgiClient(app).request("GET", "/")
        app._ours = Raises()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(AsgiClient(app).request("GET", "/"), timeout=0.5)


async def test_a_request_whose_grace_is_over_is_no_bug_to_uvicorn() -> None:
    begun = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running() as app:
        await AsgiClient(app).request("GET", "/")
        app._ours = Api({"/": {"GET": never}}, lambda _: None, [])
        client = AsgiClient(app)
        request = asyncio.create_task(client.request("GET", "/"))
        await begun.wait()
        request.cancel()
        await request
        assert (client.status, client.error["code"]) == (503, "server_shutting_down")


async def test_requests_leave_no_timers_behind() -> None:
    async with running() as app:
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        await AsgiClient(app).request("GET", "/")
        before = len(timers)
        for _ in range(50):
            await AsgiClient(app).request("GET", "/")
        assert len(timers) == before


async def test_bentomls_timeout_does_not_end_a_stream_of_ours() -> None:
    go_on = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        await exchange.start_stream([])
        await go_on.wait()
        await exchange.end_stream()

    async with running() as app:
        await AsgiClient(app).request("GET", "/")
        app._ours = Api({"/": {"GET": stream}}, lambda _: None, [])
        # BentoML's timeout is 1 s, and it would be the only thing that could end this request.
        client = AsgiClient(app)
        request = asyncio.create_task(client.request("GET", "/"))
        done, _ = await asyncio.wait([request], timeout=1.2)
        assert (len(done), client.status) == (0, 200)
        go_on.set()
        await request
        assert client.ended


def test_there_is_no_socket_when_all_runs_in_one_process() -> None:
    with pytest.raises(ConfigError, match="socket of its own"):
        socket_path(Small)
