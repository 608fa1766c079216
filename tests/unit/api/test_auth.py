"""Who may call while no keys are configured."""

import pytest
from asgi import AsgiClient

from genkan.api.auth import Doorkeeper
from genkan.api.routes import Api
from genkan.config import ServerConfig

pytestmark = pytest.mark.anyio


async def status_for(peer: str | None, server: ServerConfig) -> int:
    client = AsgiClient(Api({}, Doorkeeper(server).admit, []), peer=peer)
    return (await client.request("GET", "/nowhere")).status


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", None])
async def test_admits_peers_on_this_machine(peer: str | None) -> None:
    assert await status_for(peer, ServerConfig()) == 404


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "testclient", "127.0.0.1.evil"])
async def test_refuses_everyone_else(peer: str) -> None:
    assert await status_for(peer, ServerConfig()) == 401


async def test_admits_anyone_once_it_is_opened() -> None:
    assert await status_for("192.0.2.7", ServerConfig(open_to="any")) == 404


async def test_says_why_and_what_to_do() -> None:
    client = AsgiClient(Api({}, Doorkeeper(ServerConfig()).admit, []), peer="192.0.2.7")
    await client.request("GET", "/")
    assert "192.0.2.7" in client.error["message"]
    assert "server.open_to" in client.error["message"]
