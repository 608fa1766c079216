"""A worker's part in draining."""

import asyncio
import os

import pytest

from genkan.server.drain import DrainPage, Report
from genkan.server.drain_watch import DrainWatch
from genkan.server.http_server import HttpServer

pytestmark = pytest.mark.anyio
PID = os.getpid()


class Server(HttpServer):
    """One with something to do, and what it was told."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told: list[bool] = []
        self.was_told = asyncio.Event()

    @property
    def requests(self) -> int:
        return 2

    @property
    def connections(self) -> int:
        return 5

    def close_after_answers(self, *, closes: bool) -> None:
        self.told.append(closes)
        self.was_told.set()


async def test_it_says_what_there_is_to_do_from_its_start_to_its_end() -> None:
    page = DrainPage.private()
    watch = DrainWatch(page, Server(), 3)
    await watch.start()
    assert page.reports() == [Report(PID, 2, 5, False)]
    await watch.aclose()
    assert page.reports() == []


async def test_it_has_answers_close_once_and_says_that_it_has_seen_the_flag() -> None:
    page, server, told = DrainPage.private(), Server(), list[float]()
    watch = DrainWatch(page, server, 1, tell=told.append)
    for _ in range(2):
        watch.look()
    assert server.told == told == []
    page.begin(1.0)
    for _ in range(2):
        watch.look()
    assert server.told == [True]
    assert page.reports() == [Report(PID, 2, 5, True)]
    page.undo()
    watch.look()
    assert server.told == told == [True, False]


async def test_it_looks_again_and_again() -> None:
    page, server, turns = DrainPage.private(), Server(), asyncio.Event()

    async def sleep(_: float) -> None:
        await turns.wait()
        turns.clear()

    watch = DrainWatch(page, server, 1, sleep=sleep)
    await watch.start()
    page.begin(1.0)
    turns.set()
    await asyncio.wait_for(server.was_told.wait(), 5)
    await watch.aclose()
    assert server.told == [True]


@pytest.mark.parametrize("worker", [0, 129, 1000])
async def test_a_worker_beyond_the_slots_drains_unseen(worker: int) -> None:
    page, server = DrainPage.private(), Server()
    page.begin(1.0)
    watch = DrainWatch(page, server, worker)
    await watch.start()
    await watch.aclose()
    assert server.told == [True]
    assert page.reports() == []
