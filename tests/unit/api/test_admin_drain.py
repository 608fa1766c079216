"""``/admin/drain``."""

import json
import os
from collections.abc import Callable

import pytest
from asgi import AsgiClient
from hand_clock import HandClock

from genkan.api.admin_drain import DRAIN_PATH, DrainEndpoint
from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.server.drain import DrainPage, Report
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio
SERVER = ServerConfig(open_to="any")
PID = os.getpid()
Admit = Callable[[Exchange], None]


def anyone(exchange: Exchange) -> None:
    exchange.caller = Caller(exchange.request_id, "acme", "key_1")


def admin(exchange: Exchange) -> None:
    exchange.caller = Caller(exchange.request_id, "ops", "key_9", is_admin=True)


async def ask(
    page: DrainPage, method: str, body: bytes | None = None, admit: Admit = admin, query: str = ""
) -> AsgiClient:
    endpoint = DrainEndpoint(page, SERVER, HandClock())
    table = {DRAIN_PATH: {"GET": endpoint.get, "POST": endpoint.drain, "DELETE": endpoint.undo}}
    client = AsgiClient(Api(table, admit, []))
    headers = [] if body is None else [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await client.request(method, DRAIN_PATH + query, [body or b""], headers=headers)
    return client


async def test_it_says_what_workers_do() -> None:
    page = DrainPage.private()
    page.report(0, Report(PID, 3, 4, False))
    reply = await ask(page, "GET")
    worker = {"pid": PID, "requests": 3, "connections": 4, "draining": False}
    told = {"object": "drain", "draining": False, "since": None, "requests": 3, "connections": 4, "workers": [worker]}
    assert json.loads(reply.body) == told


@pytest.mark.parametrize("body", [None, b"{}"])
async def test_posting_drains_and_deleting_undoes_it(body: bytes | None) -> None:
    page, now_s = DrainPage.private(), HandClock().unix()
    for _ in range(2):
        told = json.loads((await ask(page, "POST", body)).body)
        assert (told["draining"], told["since"], page.is_draining) == (True, now_s, True)
    for _ in range(2):
        told = json.loads((await ask(page, "DELETE")).body)
        assert (told["draining"], told["since"], page.is_draining) == (False, None, False)


async def test_others_than_administrators_change_nothing() -> None:
    page = DrainPage.private()
    for method in ("GET", "POST", "DELETE"):
        assert (await ask(page, method, admit=anyone)).status == 403
    assert not page.is_draining


async def test_what_it_does_not_know_is_refused() -> None:
    page = DrainPage.private()
    assert (await ask(page, "POST", b'{"for_s": 5}')).error["param"] == "for_s"
    assert (await ask(page, "POST", b"[]")).status == 400
    assert (await ask(page, "POST", query="?now=1")).status == 400
    assert not page.is_draining
