"""uvicorn's server, as far as we look into it."""

import asyncio
import signal
from collections.abc import Generator

import pytest
import uvicorn

from genkan.server.http_server import HttpServer

pytestmark = pytest.mark.anyio
CLOSE = (b"connection", b"close")


async def application(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody asks")


@pytest.fixture
def server() -> Generator[uvicorn.Server, None, None]:
    """As it is while it serves: the handler of SIGTERM is its own."""
    server = uvicorn.Server(uvicorn.Config(application))
    with server.capture_signals():
        yield server


def test_it_is_found_by_its_signal_handler(server: uvicorn.Server) -> None:
    HttpServer.of_this_process().limit_grace(7.0)
    assert server.config.timeout_graceful_shutdown == 7.0


def test_what_bentoml_was_told_is_kept(server: uvicorn.Server) -> None:
    server.config.timeout_graceful_shutdown = 3
    HttpServer.of_this_process().limit_grace(7.0)
    assert server.config.timeout_graceful_shutdown == 3


def test_where_none_serves_nothing_is_under_way_and_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    here = HttpServer.of_this_process()
    here.limit_grace(7.0)
    here.close_after_answers(closes=True)
    assert (here.requests, here.connections) == (0, 0)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_every_answer_closes_its_connection_also_after_the_date_was_renewed(server: uvicorn.Server) -> None:
    here = HttpServer.of_this_process()
    server.config.load()
    for closes in (True, True, False):
        here.close_after_answers(closes=closes)
        assert server.server_state.default_headers.count(CLOSE) == closes
        await server.on_tick(0)
        assert server.server_state.default_headers.count(CLOSE) == closes
    assert next(name for name, _ in server.server_state.default_headers) == b"date"


async def test_answers_under_way_are_waited_for_but_not_for_ever(server: uvicorn.Server) -> None:
    here, done = HttpServer.of_this_process(), asyncio.Event()
    task = asyncio.create_task(done.wait())
    server.server_state.tasks.add(task)  # type: ignore[arg-type]
    assert here.requests == 1
    await here.wait_for_answers(0.01)
    assert not task.done()
    asyncio.get_running_loop().call_soon(done.set)
    await here.wait_for_answers(60)
    assert task.done()
