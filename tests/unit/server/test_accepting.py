"""New connections are taken as they come, also while the loop's turns are long."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
import uvloop

from genkan.server import accepting

CLIENTS = 40


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers nothing: only connections are looked at."""


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Rig:
    """A server of uvicorn's on a socket of ours, as BentoML starts it."""

    def __init__(self, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)  # both back to what they are now
        monkeypatch.setattr(uvicorn.Server, "shutdown", uvicorn.Server.shutdown)
        accepting.install(workers)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off"))
        self.server.config.load()
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        self.clients = ExitStack()

    @property
    def accepted(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self) -> None:
        for _ in range(CLIENTS):
            self.clients.enter_context(socket.create_connection(self.listening.getsockname()))

    async def serve(self, then: Callable[[], Awaitable[None]]) -> None:
        await self.server.startup([self.listening])
        try:
            await then()
        finally:
            self.clients.close()
            await self.server.shutdown([self.listening])


def run(rig: Rig, then: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(rig.serve(then))


def test_all_that_have_come_are_taken_in_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(1, monkeypatch)

    async def then() -> None:
        rig.connect()
        await turns(8)
        assert rig.accepted == CLIENTS

    run(rig, then)


def test_among_several_workers_each_takes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(2, monkeypatch)

    async def then() -> None:
        rig.connect()
        seen = []
        for _ in range(60):
            await turns(1)
            seen.append(rig.accepted)
        steps = [later - before for before, later in pairwise(seen)]
        assert seen[-1] == CLIENTS
        assert max(steps) <= accepting.MOST_SHARED + 1  # and uvloop's own one

    run(rig, then)


def test_after_the_end_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(1, monkeypatch)
    address = rig.listening.getsockname()

    async def then() -> None:
        assert rig.server in accepting._acceptors

    run(rig, then)
    assert rig.server not in accepting._acceptors
    with pytest.raises(OSError, match="Connection refused"):
        socket.create_connection(address, timeout=5)
