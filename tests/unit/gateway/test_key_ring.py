"""The keys in a worker's memory: what it finds, how soon it knows of changes, and when it stops to believe."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis_servers import running_redis
from scripted_upstreams import VirtualClock

from genkan.clock import SystemClock
from genkan.errors import StoreLost
from genkan.gateway.key_format import fingerprint, mint
from genkan.gateway.key_issuer import Issued, KeyIssuer
from genkan.gateway.key_records import NewKey
from genkan.gateway.key_ring import KeyRing
from genkan.gateway.seen_keys import SeenKeys
from genkan.store.address import parse_address
from genkan.store.keys import Edit, KeyTable, MemoryKeyStore, RedisKeyStore
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32


class LosableStore(MemoryKeyStore):
    """Counts what it is asked, and can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self.tables_read = 0

    async def version(self) -> int:
        self._check()
        return await super().version()

    async def table(self) -> KeyTable:
        self._check()
        self.tables_read += 1
        return await super().table()

    def empty(self) -> None:
        MemoryKeyStore.__init__(self)

    def _check(self) -> None:
        if self.lost:
            raise StoreLost("gone")


class Rig:
    def __init__(self, secret: bytes = SECRET) -> None:
        self.clock = VirtualClock()
        self.store = LosableStore()
        self.issuer = KeyIssuer(self.store, SECRET, self.clock)
        self.ring = KeyRing(self.store, secret, self.clock, trust_s=300)

    async def create(self, **wanted: Any) -> Issued:
        issued = await self.issuer.create(NewKey.model_validate({"tenant": "acme", **wanted}))
        await self.ring.refresh()
        return issued

    def finds(self, issued: Issued) -> bool:
        return self.ring.find(issued.text.encode()) is not None


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("genkan"), "propagate", True)
    caplog.set_level(logging.INFO, "genkan")
    return caplog


async def test_finds_a_key_by_what_is_presented_and_by_its_id(rig: Rig) -> None:
    issued = await rig.create(name="one")
    await rig.create(name="two")
    assert rig.ring.find(issued.text.encode()) == issued.key
    assert rig.ring.by_id(issued.key.id) == issued.key
    assert rig.ring.by_id("key_0") is None


async def test_finds_nothing_else(rig: Rig) -> None:
    text = (await rig.create()).text
    for other in (mint(), text[:-1], text + "\n", f" {text}", text.swapcase(), text.upper(), "gk-", ""):
        assert rig.ring.find(other.encode()) is None
    digests = list((await rig.store.table()).records)
    assert rig.ring.find(digests[0].encode()) is None


async def test_before_it_has_read_anything_it_believes_nothing_and_opens_nothing(rig: Rig) -> None:
    rig.store.lost = True
    await rig.ring.refresh()
    assert (rig.ring.any, rig.ring.is_stale, rig.ring.version) == (True, True, 0)
    rig.store.lost = False
    await rig.ring.refresh()
    assert (rig.ring.any, rig.ring.is_stale) == (False, False)


async def test_an_expired_and_a_revoked_key_are_on_record_but_not_found(rig: Rig) -> None:
    expiring, revoked = await rig.create(expires_in_s=10), await rig.create()
    assert rig.finds(expiring)
    assert rig.finds(revoked)
    await rig.issuer.revoke(revoked.key.id)
    rig.clock.now_s += 10
    await rig.ring.refresh()
    assert not rig.finds(expiring)
    assert not rig.finds(revoked)
    record = rig.ring.by_id(revoked.key.id)
    assert record is not None
    assert record.revoked_s is not None
    assert rig.ring.any


async def test_the_table_is_read_only_when_it_has_changed(rig: Rig) -> None:
    await rig.create()
    read = rig.store.tables_read
    for _ in range(5):
        await rig.ring.refresh()
    assert rig.store.tables_read == read
    await rig.create()
    assert rig.store.tables_read == read + 2  # one by the issuer


async def test_a_lost_redis_is_believed_for_a_while_and_then_not(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    issued = await rig.create()
    rig.store.lost = True
    rig.clock.now_s += 300
    await rig.ring.refresh()
    assert rig.finds(issued)
    stale = [rig.ring.is_stale]
    rig.clock.now_s += 1
    stale.append(rig.ring.is_stale)
    rig.store.lost = False
    await rig.ring.refresh()
    stale.append(rig.ring.is_stale)
    assert stale == [False, True, False]
    assert [record.levelname for record in log.records] == ["ERROR", "INFO"]


async def test_after_an_outage_the_table_is_read_again_whatever_its_version(rig: Rig) -> None:
    await rig.create()
    read = rig.store.tables_read
    rig.store.lost = True
    await rig.ring.refresh()
    rig.store.lost = False
    await rig.ring.refresh()
    assert rig.store.tables_read == read + 1


async def test_another_secret_is_said_once_and_nothing_is_believed(log: pytest.LogCaptureFixture) -> None:
    rig = Rig(secret=b"t" * 32)
    issued = await rig.create()
    await rig.ring.refresh()
    assert (rig.ring.is_stale, rig.ring.any, rig.finds(issued)) == (True, True, False)
    assert len(log.records) == 1
    assert "another secret" in log.text
    assert "sssss" not in log.text


async def test_a_ring_that_has_seen_keys_does_not_open_when_redis_is_emptied(rig: Rig) -> None:
    issued = await rig.create()
    rig.store.empty()
    await rig.ring.refresh()
    assert rig.ring.any
    assert not rig.finds(issued)


async def test_a_record_that_cannot_be_read_opens_nothing_and_harms_no_other(
    rig: Rig, log: pytest.LogCaptureFixture
) -> None:
    issued = await rig.create()
    await rig.store.edit([Edit("d" * 64, None, b'{"role":"admin"}')], fingerprint(SECRET))
    await rig.ring.refresh()
    assert rig.finds(issued)
    assert "cannot be read" in log.text


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[RespClient]:
    with running_redis("embedded", tmp_path) as redis:
        client = RespClient(parse_address(redis.url), connect_s=5, timeout_s=5)
        await client.start()
        yield client
        await client.aclose()


async def test_two_workers_know_of_a_change_within_a_second(client: RespClient) -> None:
    clock = SystemClock()
    store = RedisKeyStore(client, "test")
    issuer = KeyIssuer(store, SECRET, clock)
    rings = [KeyRing(store, SECRET, clock, trust_s=300) for _ in range(2)]
    for ring in rings:
        await ring.start()
    issued = await issuer.create(NewKey(tenant="t"))

    async def until(found: bool) -> None:
        for _ in range(100):
            if all((ring.find(issued.text.encode()) is not None) == found for ring in rings):
                return
            await asyncio.sleep(0.01)
        pytest.fail("not within a second")

    await until(found=True)
    await issuer.revoke(issued.key.id)
    await until(found=False)
    for ring in rings:
        await ring.aclose()


def restarted(rig: Rig, path: Path) -> KeyRing:
    return KeyRing(rig.store, SECRET, rig.clock, trust_s=300, seen=SeenKeys(path))


async def test_a_restart_does_not_open_what_had_keys_though_redis_lost_them(
    rig: Rig, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    note = tmp_path / "data" / "keys.seen"
    ring = restarted(rig, note)
    await ring.refresh()
    assert (ring.any, note.exists()) == (False, False)
    issued = await rig.create()
    await ring.refresh()
    assert (ring.any, note.exists()) == (True, True)

    rig.store.empty()
    ring = restarted(rig, note)
    await ring.refresh()
    assert (ring.any, ring.is_stale, ring.find(issued.text.encode())) == (True, False, None)
    (said,) = (record.getMessage() for record in log.records if record.levelno == logging.ERROR)
    assert f"delete {note} and restart" in said
    again = await rig.create()
    await ring.refresh()
    assert ring.find(again.text.encode()) == again.key

    rig.store.empty()
    note.unlink()
    ring = restarted(rig, note)
    await ring.refresh()
    assert not ring.any


async def test_keys_open_though_it_cannot_be_noted_that_there_are_any(
    rig: Rig, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("no folder")
    issued = await rig.create()
    ring = restarted(rig, tmp_path / "data" / "keys.seen")
    await ring.refresh()
    assert ring.find(issued.text.encode()) == issued.key
    assert "a restart would open" in log.text
