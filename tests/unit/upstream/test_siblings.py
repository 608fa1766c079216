"""Processes beside the gateway, as servers on Unix sockets."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from genkan.upstream.siblings import Siblings

pytestmark = pytest.mark.anyio


class Sibling:
    """Answers every request with ``status``; none at all while it is None."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status: int | None = 503
        self.asked = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /readyz HTTP/1.1\r\n")
        self.asked += 1
        if self.status is None:
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 1\r\n\r\n\n" % self.status)
            await writer.drain()
        writer.close()


class Rounds:
    """Sleeps not at all, and lets others wait for what has changed since it was last slept."""

    def __init__(self) -> None:
        self._slept = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self._slept.set()
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._slept.clear()
                await self._slept.wait()


@asynccontextmanager
async def listening(folder: Path) -> AsyncGenerator[tuple[Sibling, Sibling, Siblings, Rounds], None]:
    engine, embedder, rounds = Sibling(folder / "engine"), Sibling(folder / "embedder"), Rounds()
    await engine.listen()
    await embedder.listen()
    watched = Siblings({"engine": str(engine.path)}, {"embedder": str(embedder.path)}, sleep=rounds.sleep)
    await watched.start()
    try:
        yield engine, embedder, watched, rounds
    finally:
        await watched.aclose()
        await engine.die()
        await embedder.die()


async def asked_again(sibling: Sibling, rounds: Rounds) -> None:
    """Until it was asked some times more."""
    asked = sibling.asked
    await rounds.until(lambda: sibling.asked >= asked + 3)


async def test_they_are_ready_when_all_are(tmp_path: Path) -> None:
    async with listening(tmp_path) as (engine, embedder, watched, rounds):
        assert not watched.are_ready
        engine.status = 200
        await asked_again(embedder, rounds)
        assert not watched.are_ready
        embedder.status = 200
        await rounds.until(lambda: watched.are_ready)


async def test_one_that_is_needed_must_stay_ready_and_one_that_is_awaited_need_not(tmp_path: Path) -> None:
    async with listening(tmp_path) as (engine, embedder, watched, rounds):
        engine.status = embedder.status = 200
        await rounds.until(lambda: watched.are_ready)
        await embedder.die()
        await asked_again(engine, rounds)
        assert watched.are_ready
        engine.status = 503
        await rounds.until(lambda: not watched.are_ready)
        engine.status = 200
        await rounds.until(lambda: watched.are_ready)
        await engine.die()
        await rounds.until(lambda: not watched.are_ready)
        await engine.listen()
        await embedder.listen()
        await rounds.until(lambda: watched.are_ready)


async def test_one_that_does_not_answer_holds_nobody_up(tmp_path: Path) -> None:
    async with listening(tmp_path) as (engine, embedder, watched, rounds):
        embedder.status = None
        engine.status = 200
        await asked_again(engine, rounds)
        assert not watched.are_ready


async def test_without_any_all_are_ready() -> None:
    watched = Siblings({}, {})
    await watched.start()
    assert watched.are_ready
    await watched.aclose()
