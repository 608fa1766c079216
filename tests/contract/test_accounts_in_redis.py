"""Accounts in Redis: what can only happen there."""

import pytest
from account_calls import HOUR_S, ONE, admit, bucket, budget, lease, race, row, settle, window
from account_rigs import RedisRig, until
from redis_servers import KINDS

from genkan.config.store import LedgerConfig
from genkan.errors import StoreRefused
from genkan.store.accounts import Admission, Amounts, Line, Plan, Settlement, Unit
from genkan.store.redis_accounts import RedisAccounts

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("server", KINDS, indirect=True, scope="module")]


async def test_its_scripts_may_be_forgotten_at_any_time(redis: RedisRig) -> None:
    plan = (bucket(10), budget(10))
    client = redis.clients[1]
    await client.call("SCRIPT", "FLUSH")
    assert await race(redis, plan, clients=3) == ["r0", "r1", "r2"]
    await client.call("SCRIPT", "FLUSH")
    settlements = [Settlement(f"r{n}", plan, Amounts(), Amounts(), row(f"r{n}")) for n in (0, 1, 1)]
    assert await redis.accounts.settle(settlements) == ["settled", "settled", "duplicate"]
    for call in (redis.accounts.renew([Admission("r2", plan, Amounts())]), redis.accounts.close_lost()):
        await client.call("SCRIPT", "FLUSH")
        await call
    await client.call("SCRIPT", "FLUSH")
    assert [told.remaining for told in await redis.accounts.read(plan)] == [7, 10]
    assert len(await redis.accounts.rows()) == 2


async def test_prefixes_do_not_touch_each_other(redis: RedisRig) -> None:
    other = redis.under("genkan-tes")
    plan = (bucket(1), lease(1), budget(1))
    assert len(await race(redis, plan, clients=2)) == 1
    assert (await admit(other, "r0", plan, Amounts(1, 1, 1), draft=True)).denied is None
    assert await settle(other, "r0", plan, has_row=True) == "settled"
    assert [told.remaining for told in await redis.accounts.read(plan)] == [0, 0, 1]
    assert await redis.accounts.rows() == []
    ours, theirs = b"genkan-test:", b"genkan-tes:"
    assert all(key.startswith((ours, theirs)) for key in await redis.keys())


async def test_what_is_no_row_is_passed_over(redis: RedisRig) -> None:
    key = "genkan-test:ledger"
    for number in range(30):
        await settle(redis.accounts, f"r{number}", (), has_row=True)
        for fields in (("r", "no JSON"), ("r", "[]"), ("other", "{}"), ("r", "{}", "s", "{}"), ("r", b"\xff")):
            await redis.clients[0].call("XADD", key, "*", *fields)
    rows = await redis.accounts.rows(at_most=20)
    assert [written for _, written in rows] == [row(f"r{number}") for number in range(20)]
    more = await redis.accounts.rows(rows[-1][0], at_most=20)
    assert [written for _, written in more] == [row(f"r{number}") for number in range(20, 30)]
    assert await redis.accounts.already_settled(["r3", "x"], 0) == {"r3"}


async def test_all_that_is_kept_of_an_admission_expires_or_is_a_reservation(redis: RedisRig) -> None:
    plan = (bucket(10), window(10), lease(9), budget(10))
    await admit(redis.accounts, "r", plan, Amounts(1, 1, 1), draft=True)
    expiring = [key for key in await redis.keys() if await redis.clients[0].call("PTTL", key) > 0]
    assert sorted(set(await redis.keys()) - set(expiring)) == [b"genkan-test:leases", b"genkan-test:reserved"]
    await settle(redis.accounts, "r", plan, Amounts(1, 1, 1), Amounts(1, 1, 1), has_row=True)
    assert all([await redis.clients[0].call("PTTL", key) > 0 for key in await redis.keys()])


async def test_one_that_is_refused_does_not_keep_the_others_from_being_settled(redis: RedisRig) -> None:
    await redis.clients[0].call("SET", "genkan-test:lease:a", "no zset")
    plans: list[Plan] = [(), (lease(1),), ()]
    settlements = [Settlement(f"r{n}", plan, ONE, ONE, row(f"r{n}")) for n, plan in enumerate(plans)]
    settlements[1] = Settlement("r1", plans[1], ONE, ONE, b"")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await redis.accounts.settle(settlements)
    assert [written for _, written in await redis.accounts.rows()] == [row("r0"), row("r2")]


async def test_less_than_nothing_is_refused_and_so_changes_nothing(redis: RedisRig) -> None:
    plan, less = (bucket(10), budget(10)), Amounts(1, 0, -5)
    with pytest.raises(StoreRefused):
        await admit(redis.accounts, "r", plan, less, draft=True)
    with pytest.raises(StoreRefused):
        await settle(redis.accounts, "r", plan, ONE, less, has_row=True)
    assert await redis.keys() == []
    assert await redis.accounts.rows() == []


@pytest.mark.parametrize("after_s", [0.0, 1.2])
async def test_a_bucket_is_kept_until_what_it_owes_is_paid_however_often_it_is_written(
    redis: RedisRig, after_s: float
) -> None:
    line = bucket(10, window_s=10.0)
    await admit(redis.accounts, "r0", (line,), Amounts(1))
    await redis.advance(after_s)
    for number in range(1, 9):
        reset_s = (await admit(redis.accounts, f"r{number}", (line,), Amounts(1))).states[0].reset_s
        kept_ms = await redis.clients[0].call("PTTL", "genkan-test:gcra:a")
        assert reset_s * 1000 - 500 <= kept_ms <= 2 * 10_000 + 1000
    await settle(redis.accounts, "r8", (line,), ONE, Amounts(2))
    assert await redis.clients[0].call("PTTL", "genkan-test:gcra:a") >= (9 - after_s) * 1000 - 500


class TestRefused:
    """What fails in the middle of a settlement; Redis itself undoes nothing."""

    PLAN = (
        bucket(100, unit=Unit.TOKENS),
        Line("w", "window", Unit.TOKENS, 100, HOUR_S),
        Line("l", "lease", Unit.REQUESTS, 3, HOUR_S),
        budget(100),
    )
    SETTLEMENT = Settlement("r", PLAN, Amounts(1, 50, 50), Amounts(1, 20, 20), row("r"))

    @pytest.mark.parametrize(
        ("key", "value", "code"),
        [
            ("ledger", "no stream", "WRONGTYPE"),
            ("leases", "no zset", "WRONGTYPE"),
            ("gcra:a", "no state", "ERR"),
            ("window:w", "no zset", "WRONGTYPE"),
            ("lease:l", "no zset", "WRONGTYPE"),
            ("budget:a:2026-11", "1.5", "ERR"),
        ],
    )
    async def test_nothing_is_done_because_of_a_key_and_all_of_it_once_the_key_is_mended(
        self, redis: RedisRig, key: str, value: str, code: str
    ) -> None:
        client, name = redis.clients[1], f"genkan-test:{key}"
        await self._admitted(redis)
        before = await client.call("DUMP", name)
        await client.call("SET", name, value)
        kept = await self._all(redis)
        for _ in range(2):
            with pytest.raises(StoreRefused) as refused:
                await redis.accounts.settle([self.SETTLEMENT])
            assert refused.value.code == code
            assert await self._all(redis) == kept
        await client.call("DEL", name)
        if before is not None:
            await client.call("RESTORE", name, 3_600_000, before)
        await self._settles(redis)

    async def test_so_it_is_of_one_that_was_closed_as_lost(self, redis: RedisRig) -> None:
        client = redis.clients[1]
        plan = (lease(3, window_s=0.01), budget(100))
        settlement = Settlement("r", plan, Amounts(1, 0, 50), Amounts(1, 0, 20), row("r"))
        await admit(redis.accounts, "r", plan, settlement.reserved, draft=True)
        await until(redis, lambda: _is_closed(redis))
        for key in ("lost", "ledger"):
            await client.call("RENAME", f"genkan-test:{key}", "aside")
            await client.call("SET", f"genkan-test:{key}", "something else")
            with pytest.raises(StoreRefused, match="WRONGTYPE"):
                await redis.accounts.settle([settlement])
            await client.call("RENAME", "aside", f"genkan-test:{key}")
        assert await redis.accounts.settle([settlement, settlement]) == ["late", "duplicate"]
        assert [told.remaining for told in await redis.accounts.read(plan)] == [3, 80]
        assert len(await redis.accounts.rows()) == 2

    @pytest.mark.parametrize("command", ["xadd", "set", "hexists"])
    async def test_nothing_is_done_without_permission_and_all_of_it_with_it(
        self, redis: RedisRig, command: str
    ) -> None:
        client = redis.clients[1]
        await self._admitted(redis)
        kept = await self._all(redis)
        await client.call("ACL", "SETUSER", "default", f"-{command}")
        try:
            for _ in range(2):
                with pytest.raises(StoreRefused) as refused:
                    await redis.accounts.settle([self.SETTLEMENT])
                assert refused.value.code == "NOPERM"
        finally:
            await client.call("ACL", "SETUSER", "default", f"+{command}")
        assert await self._all(redis) == kept
        await self._settles(redis)

    async def test_nothing_is_done_without_memory_and_all_of_it_with_it(self, redis: RedisRig) -> None:
        client = redis.clients[1]
        await self._admitted(redis)
        kept = await self._all(redis)
        await client.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreRefused) as refused:
                await redis.accounts.settle([self.SETTLEMENT])
        finally:
            await client.call("CONFIG", "SET", "maxmemory", "0")
        assert refused.value.code == "OOM"
        assert await self._all(redis) == kept
        await self._settles(redis)

    async def _admitted(self, redis: RedisRig) -> None:
        decision = await admit(redis.accounts, "r", self.PLAN, Amounts(1, 50, 50), draft=True)
        assert decision.denied is None

    async def _all(self, redis: RedisRig) -> dict[bytes, bytes]:
        """All that is kept, with the ledger."""
        client = redis.clients[1]
        return {key: await client.call("DUMP", key) for key in await client.call("KEYS", "*")}

    async def _settles(self, redis: RedisRig) -> None:
        assert await redis.accounts.settle([self.SETTLEMENT, self.SETTLEMENT]) == ["settled", "duplicate"]
        assert [told.remaining for told in await redis.accounts.read(self.PLAN)] == [80, 80, 3, 80]
        assert [written for _, written in await redis.accounts.rows()] == [row("r")]
        assert await redis.accounts.close_lost() == 0
        assert await redis.clients[1].call("EXISTS", "genkan-test:reserved", "genkan-test:leases") == 0


async def _is_closed(redis: RedisRig) -> bool:
    return await redis.accounts.close_lost() == 1


async def test_rows_that_are_too_old_are_dropped(redis: RedisRig) -> None:
    accounts = RedisAccounts(redis.clients[0], prefix="genkan-test", ledger=LedgerConfig(keep_days=1))
    for number in range(150):
        await redis.clients[0].call("XADD", "genkan-test:ledger", f"1000-{number + 1}", "r", row(f"old{number}"))
    settlements = [Settlement(f"r{number}", (), ONE, ONE, row(f"r{number}")) for number in range(3000)]
    await accounts.settle(settlements)  # one in 128 looks for old rows
    rows = await accounts.rows(at_most=4000)
    assert rows[-3000][1] == row("r0")
    assert len(rows) <= 3000 + 50  # Redis drops them a hundred at a time
