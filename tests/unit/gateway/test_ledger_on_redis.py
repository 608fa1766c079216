"""The ledger on real Redis servers that are paused and killed, and with workers that are."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ledgers import ACTUAL, PLAN, admission, eventually, one_each, rows_of, settlement
from redis_servers import KINDS, Kind, RunningRedis, running_redis

from genkan.clock import SystemClock
from genkan.config.store import LedgerConfig
from genkan.errors import StoreError
from genkan.gateway.journal import Journal
from genkan.gateway.ledger import Ledger
from genkan.gateway.segment import segments_in
from genkan.store.accounts import Admission
from genkan.store.address import parse_address
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio


WORKER = """
import asyncio, sys
from pathlib import Path
from ledgers import admission, settlement
from genkan.clock import SystemClock
from genkan.config.store import LedgerConfig
from genkan.errors import StoreError
from genkan.gateway.journal import Journal
from genkan.gateway.ledger import Ledger
from genkan.store.address import parse_address
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient

async def main(url, folder, name):
    client = RespClient(
        parse_address(url), connect_s=0.25, timeout_s=0.1, on_connected=lambda other: other and ledger.lost_ground()
    )
    accounts = RedisAccounts(client, prefix="genkan", ledger=LedgerConfig())
    ledger = Ledger(accounts, Journal(Path(folder)), clock=SystemClock(), lease_s=30.0, tend_every_s=0.1)
    await client.start()
    await ledger.start()
    for n in range(10**9):
        asked = admission(f"{name}.{n}")
        try:
            await accounts.admit(asked, timeout_s=0.05)
            was_admitted = True
        except StoreError:
            was_admitted = False
        ledger.opened(asked, was_admitted=was_admitted)
        ledger.attempt_begun(asked.request_id, 1, "m@u")
        print("begun", asked.request_id, flush=True)
        if n % 10:
            ledger.settle(settlement(asked.request_id, was_admitted=was_admitted))
            print("settled", asked.request_id, flush=True)
        await asyncio.sleep(0)

print("ready", "to begin", flush=True)
if sys.stdin.readline():
    asyncio.run(main(*sys.argv[1:]))
"""


class Process:
    """A worker in a process of its own, that says what it did as soon as it did it."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        line = [sys.executable, "-c", WORKER, url, str(folder), name]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        self.said: list[list[str]] = []

    def begin(self) -> None:
        """It has loaded everything, and waits for this."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("ready")
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def listen(self, lines: int) -> None:
        """Until it has said that many more."""
        assert self._process.stdout is not None
        self.said += [self._process.stdout.readline().split() for _ in range(lines)]

    def kill(self) -> None:
        """``kill -9``, wherever it is; once more does nothing."""
        self._process.kill()
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.said += [line.split() for line in self._process.stdout if line.endswith("\n")]
            self._process.communicate()


@asynccontextmanager
async def redis_ledger(redis: RunningRedis, folder: Path) -> AsyncGenerator[tuple[RedisAccounts, Ledger], None]:
    """A ledger on a Redis, in this process."""

    def connected(is_another: bool) -> None:
        if is_another:
            ledger.lost_ground()

    client = RespClient(parse_address(redis.url), connect_s=0.25, timeout_s=0.1, on_connected=connected)
    accounts = RedisAccounts(client, prefix="genkan", ledger=LedgerConfig())
    ledger = Ledger(accounts, Journal(folder), clock=SystemClock(), lease_s=30.0, tend_every_s=0.1)
    await client.start()
    await ledger.start()
    try:
        yield accounts, ledger
    finally:
        await ledger.aclose(drain_s=5.0)
        await client.aclose()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


async def test_workers_killed_while_redis_is_paused_lose_nothing_and_double_nothing(tmp_path: Path, kind: Kind) -> None:
    journal = tmp_path / "journal"
    dice = random.Random(5)
    with running_redis(kind, tmp_path) as redis:
        said: list[list[str]] = []
        workers = [Process(redis.url, journal, f"w{n}") for n in range(4)]  # all load at once, one works at a time
        try:
            for worker in workers:
                worker.begin()
                worker.listen(1 + dice.randrange(400))
                redis.pause()
                worker.listen(10)  # what it does then waits in the socket, or in its memory
                worker.kill()
                redis.resume()
                said += worker.said
        finally:
            for worker in workers:
                worker.kill()
            redis.resume()
        async with redis_ledger(redis, journal) as (accounts, _):
            await eventually(lambda: segments_in(journal) == [])
            rows, remaining = await rows_of(accounts), (await accounts.read(PLAN))[2].remaining
        states = {request_id: row["state"] for request_id, (row,) in rows.items()}  # one row each
        settled = {request_id for what, request_id in said if what == "settled"}
        begun = {request_id for what, request_id in said if what == "begun"}
        assert begun <= set(states)
        assert len(set(states) - begun) <= 4  # one for each worker, which died before it said so
        assert settled <= {request_id for request_id, state in states.items() if state == "ok"}
        assert len({each for each in begun - settled if states[each] == "ok"}) <= 4
        owed = PLAN[2].limit - remaining - sum(100 if state == "ok" else 300 for state in states.values())
        assert owed in range(0, 5 * 300, 300)  # reserved by a worker that died before it knew; it runs out in 30 s


async def test_a_redis_paused_for_two_seconds_loses_and_doubles_nothing(tmp_path: Path, kind: Kind) -> None:
    with running_redis(kind, tmp_path) as redis:
        async with redis_ledger(redis, tmp_path / "journal") as (accounts, ledger):
            loop = asyncio.get_running_loop()
            began_s, is_paused = loop.time(), False
            n = 0
            while (now_s := loop.time()) < began_s + 2.2:
                if is_paused != (began_s + 0.1 < now_s < began_s + 2.1):
                    is_paused = not is_paused
                    redis.pause() if is_paused else redis.resume()
                asked = admission(f"r{n}")
                was_admitted = await _admitted(accounts, asked)
                ledger.opened(asked, was_admitted=was_admitted)
                ledger.attempt_begun(f"r{n}", 1, "m@u")
                ledger.settle(settlement(f"r{n}", was_admitted=was_admitted))
                n += 1
                await asyncio.sleep(0.001)
            async with asyncio.timeout(10.0):
                await ledger._outbox.drained()
            assert len(one_each(await rows_of(accounts))) == n
            assert (await accounts.read(PLAN))[2].remaining == PLAN[2].limit - n * ACTUAL.budget_nano_usd
        assert os.listdir(tmp_path / "journal") == []


async def _admitted(accounts: RedisAccounts, asked: Admission) -> bool:
    try:
        await accounts.admit(asked, timeout_s=0.05)
    except StoreError:
        return False
    return True


async def test_a_redis_killed_and_started_again_has_every_row_once(tmp_path: Path, kind: Kind) -> None:
    with running_redis(kind, tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as redis:
        async with redis_ledger(redis, tmp_path / "journal") as (accounts, ledger):
            for round_ in range(3):
                for n in range(300):
                    ledger.settle(settlement(f"r{round_}.{n}", was_admitted=False))
                    if n % 50 == 0:
                        await asyncio.sleep(0.001)
                await asyncio.to_thread(redis.restart)
            async with asyncio.timeout(10.0):
                await ledger._outbox.drained()
            assert len(one_each(await rows_of(accounts))) == 900


async def test_a_redis_that_comes_back_without_its_last_seconds_is_told_again(tmp_path: Path, kind: Kind) -> None:
    with running_redis(kind, tmp_path) as redis:  # keeps nothing at all
        async with redis_ledger(redis, tmp_path / "journal") as (accounts, ledger):
            for n in range(150):
                ledger.settle(settlement(f"r{n}", was_admitted=False))
            await ledger._outbox.drained()
            assert len(await rows_of(accounts)) == 150
            await asyncio.to_thread(redis.restart)
            for n in range(150, 200):
                ledger.settle(settlement(f"r{n}", was_admitted=False))
            deadline_s = asyncio.get_running_loop().time() + 10.0
            while len(await _rows_or_none(accounts)) < 200:
                assert asyncio.get_running_loop().time() < deadline_s
                await asyncio.sleep(0.01)
            assert len(one_each(await rows_of(accounts))) == 200


async def _rows_or_none(accounts: RedisAccounts) -> dict[str, list[dict[str, object]]]:
    try:
        return await rows_of(accounts)
    except StoreError:
        return {}
