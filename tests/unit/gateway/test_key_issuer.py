"""Making, listing, revoking and rotating keys."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from scripted_upstreams import VirtualClock

from genkan.errors import InvalidRequest, StoreRefused, UnknownPath
from genkan.gateway.key_format import digest, fingerprint, looks_right
from genkan.gateway.key_issuer import KEEP_S, KeyIssuer
from genkan.gateway.key_records import NewKey, state
from genkan.store.keys import Edit, MemoryKeyStore

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryKeyStore()
        self.issuer = KeyIssuer(self.store, SECRET, self.clock)

    async def create(self, **wanted: Any) -> Any:
        return await self.issuer.create(NewKey.model_validate({"tenant": "acme", **wanted}))

    async def states(self) -> dict[str, str]:
        return {key.id: state(key, self.clock.unix()) for key in await self.issuer.listed()}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_new_key_is_kept_as_a_digest_and_a_record_and_nowhere_else(rig: Rig) -> None:
    issued = await rig.create(name="ci", role="admin", models=["m"], budgets=[{"per": "day", "tokens": 5}])
    assert looks_right(issued.text.encode())
    assert issued.key.hint == issued.text[-4:]
    assert (issued.key.tenant, issued.key.name, issued.key.role, issued.key.models) == ("acme", "ci", "admin", ("m",))
    records = (await rig.store.table()).records
    assert list(records) == [digest(SECRET, issued.text.encode())]
    assert issued.text[:8] not in str(records)
    assert issued.text[-8:] not in str(records)
    assert issued.text not in repr(issued)
    assert await rig.issuer.listed() == [issued.key]


async def test_expiry_is_a_moment_or_a_time_from_now(rig: Rig) -> None:
    now_s = rig.clock.unix()
    assert (await rig.create()).key.expires_s is None
    assert (await rig.create(expires_in_s=60)).key.expires_s == now_s + 60
    assert (await rig.create(expires_at=now_s + 5)).key.expires_s == now_s + 5
    ahead_s = 100 * 365 * 86_400
    assert (await rig.create(expires_at=now_s + ahead_s)).key.expires_s == now_s + ahead_s
    too_late = now_s + ahead_s + 1
    milliseconds = 1_795_271_356_162
    for wrong in (
        {"expires_at": now_s},
        {"expires_at": too_late},
        {"expires_at": milliseconds},
        {"expires_at": now_s + 9, "expires_in_s": 9},
    ):
        with pytest.raises(InvalidRequest) as caught:
            await rig.create(**wrong)
        assert caught.value.param == "expires_at"


async def test_lists_one_tenant_or_all_in_the_order_they_were_made(rig: Rig) -> None:
    made = []
    for tenant in ("b", "a", "b"):
        made.append((await rig.create(tenant=tenant)).key)
        rig.clock.now_s += 1
    assert await rig.issuer.listed() == made
    assert await rig.issuer.listed("b") == [made[0], made[2]]
    assert await rig.issuer.listed("nobody") == []


async def test_a_key_is_revoked_once_and_stays_on_record(rig: Rig) -> None:
    key = (await rig.create()).key
    first = await rig.issuer.revoke(key.id)
    rig.clock.now_s += 100
    assert await rig.issuer.revoke(key.id) == first
    assert first.revoked_s == rig.clock.unix() - 100
    assert await rig.states() == {key.id: "revoked"}


@pytest.mark.parametrize("key_id", ["key_0000000000000000", "", "*"])
async def test_what_is_not_there_cannot_be_changed(rig: Rig, key_id: str) -> None:
    await rig.create()
    for change in (rig.issuer.revoke, rig.issuer.rotate):
        with pytest.raises(UnknownPath):
            await change(key_id)


async def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends(rig: Rig) -> None:
    old = await rig.create(role="admin", models=["m"], limits={"concurrent": 2}, expires_in_s=1000)
    rig.clock.now_s += 10
    new = await rig.issuer.rotate(old.key.id)
    assert new.text != old.text
    assert new.key.id != old.key.id
    for field in ("tenant", "role", "models", "limits", "budgets", "expires_s"):
        assert getattr(new.key, field) == getattr(old.key, field)
    assert new.key.created_s == rig.clock.unix()
    assert await rig.states() == {old.key.id: "revoked", new.key.id: "active"}


@pytest.mark.parametrize(("expires_in_s", "ends_in_s"), [(None, 60), (30, 30), (90, 60)])
async def test_with_grace_the_old_key_ends_later_but_never_later_than_it_would(
    rig: Rig, expires_in_s: float | None, ends_in_s: float
) -> None:
    old = await rig.create(expires_in_s=expires_in_s)
    await rig.issuer.rotate(old.key.id, grace_s=60)
    kept = next(key for key in await rig.issuer.listed() if key.id == old.key.id)
    assert (kept.expires_s, kept.revoked_s) == (rig.clock.unix() + ends_in_s, None)


async def test_a_key_that_has_ended_is_not_rotated_into_one_that_has_not(rig: Rig) -> None:
    revoked, expired = (await rig.create()).key, (await rig.create(expires_in_s=1)).key
    await rig.issuer.revoke(revoked.id)
    rig.clock.now_s += 1
    for key in (revoked, expired):
        with pytest.raises(InvalidRequest, match="has ended"):
            await rig.issuer.rotate(key.id)
    assert len(await rig.issuer.listed()) == 2


async def test_the_records_of_keys_that_ended_long_ago_go_when_another_is_made(rig: Rig) -> None:
    revoked, _, lasting = await rig.create(), await rig.create(expires_in_s=5), await rig.create()
    await rig.issuer.revoke(revoked.key.id)
    rig.clock.now_s += KEEP_S - 1
    late = await rig.create()
    assert len(await rig.issuer.listed()) == 4
    rig.clock.now_s += 10
    last = await rig.create()
    assert [key.id for key in await rig.issuer.listed()] == [lasting.key.id, late.key.id, last.key.id]


async def test_changes_at_the_same_time_are_all_made(rig: Rig) -> None:
    class Slow(MemoryKeyStore):
        async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
            await asyncio.sleep(0)  # between what was read and what is written
            return await super().edit(edits, fingerprint)

    issuer = KeyIssuer(Slow(), SECRET, rig.clock)
    key = (await issuer.create(NewKey(tenant="t"))).key
    await asyncio.gather(issuer.rotate(key.id, grace_s=60), issuer.rotate(key.id, grace_s=30), issuer.revoke(key.id),
                         return_exceptions=True)  # fmt: skip
    kept = {it.id: it for it in await issuer.listed()}
    assert kept[key.id].revoked_s is not None


async def test_it_gives_up_where_others_are_always_faster(rig: Rig) -> None:
    class Contended(MemoryKeyStore):
        async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
            return False

    with pytest.raises(StoreRefused) as caught:
        await KeyIssuer(Contended(), SECRET, rig.clock).create(NewKey(tenant="t"))
    assert caught.value.code == "BUSY"


async def test_nothing_is_made_beside_keys_of_another_secret(rig: Rig) -> None:
    await rig.create()
    with pytest.raises(StoreRefused, match="OTHERSECRET"):
        await KeyIssuer(rig.store, b"t" * 32, rig.clock).create(NewKey(tenant="t"))
    assert len((await rig.store.table()).records) == 1


async def test_a_record_that_cannot_be_read_stands_in_nobodys_way(rig: Rig) -> None:
    key = (await rig.create()).key
    await rig.store.edit([Edit("d" * 64, None, b'{"of": "a later version"}')], fingerprint(SECRET))
    await rig.issuer.revoke(key.id)
    assert await rig.states() == {key.id: "revoked"}
    assert b'{"of": "a later version"}' in (await rig.store.table()).records.values()
