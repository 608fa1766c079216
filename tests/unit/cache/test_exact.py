"""The exact tier: who gets what, and what happens to what is odd. Its store is in memory, or fails as told."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from cache_notes import CacheNotes
from hand_clock import HandClock
from stored_answers import SECRET, chat, scope_of, stored

from genkan.cache.exact import ExactTier, Hit
from genkan.cache.scope import Scope
from genkan.cache.sealer import Sealer
from genkan.cache.stored_answer import StoredAnswer
from genkan.errors import StoreError, StoreLost, StoreRefused, StoreTimeout
from genkan.store.answers import Answers, Looked
from genkan.store.memory_answers import MemoryAnswers

pytestmark = pytest.mark.anyio
S = 0.05


class Rig:
    """A tier over answers in memory."""

    def __init__(self, answers: Answers | None = None, *, encrypt: bool = False, most_bytes: int = 1 << 18) -> None:
        self.clock = HandClock()
        self.notes = CacheNotes()
        self.answers = answers or MemoryAnswers(self.clock, limit_bytes=16 << 20)
        sealer = Sealer(SECRET, encrypt=encrypt)
        self.tier = ExactTier(self.answers, sealer, self.clock, self.notes, max_answer_bytes=most_bytes)

    async def find(self, scope: Scope, *, tenant: str = "a", route: str = "r") -> Hit | None:
        return await self.tier.look(scope, tenant=tenant, route=route, timeout_s=S).found()

    async def put(self, answer: StoredAnswer, scope: Scope | None = None) -> None:
        look = self.tier.look(scope or scope_of(chat()), tenant="a", route="r", timeout_s=S)
        await look.found()
        look.put(answer, ttl_s=60)
        await self.tier.aclose()
        await asyncio.sleep(0)


@pytest.mark.parametrize("encrypt", [False, True])
async def test_what_was_put_is_found_by_the_same_request(encrypt: bool) -> None:
    rig, scope = Rig(encrypt=encrypt), scope_of(chat())
    assert await rig.find(scope) is None
    answer = stored(scope)
    await rig.put(answer)
    assert await rig.find(scope) == Hit(answer, "exact")
    assert rig.notes.failures == []
    assert len(rig.notes.stored_bytes) == 1


async def test_typed_otherwise_it_is_found_by_the_normalised_tier() -> None:
    rig = Rig()
    await rig.put(stored(scope_of(chat("How do I cancel?"))), scope_of(chat("How do I cancel?")))
    hit = await rig.find(scope_of(chat("how do I cancel")))
    assert hit is not None
    assert hit.tier == "normalised"
    assert await rig.find(scope_of(chat("how do I cancel"), normalised=False)) is None


async def test_a_judged_one_is_found_by_the_alias_tier() -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope, is_alias=True))
    hit = await rig.find(scope)
    assert hit is not None
    assert hit.tier == "alias"


@pytest.mark.parametrize(
    ("options", "whose"),
    [
        ({}, {"tenant": "b"}),
        ({}, {"route": "s"}),
        ({}, {"models": b"other"}),
        ({"temperature": 0.5}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
        ({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Where is my order?"}]}, {}),
        ({"something_new": 1}, {}),
    ],
)
async def test_another_request_never_finds_it(options: dict[str, Any], whose: dict[str, Any]) -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope))
    assert await rig.find(scope_of(chat(**options), **whose)) is None
    # Nor if its key were the same.
    other = scope_of(chat(**options), **whose)
    assert await rig.find(other._replace(key=scope.key)) is None
    assert rig.notes.failures == ["unreadable"]


async def test_an_answer_is_not_found_once_it_has_run_out_by_its_own_word() -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope, expires_s=rig.clock.unix() + 5))
    rig.clock.advance(4.9)
    assert await rig.find(scope) is not None
    rig.clock.advance(0.1)
    assert await rig.find(scope) is None
    assert rig.notes.failures == []


@pytest.mark.parametrize("purged", [{}, {"tenant": "a"}, {"route": "r"}, {"tenant": "a", "route": "x"}])
async def test_a_purge_takes_what_is_there_and_what_is_on_its_way(purged: dict[str, str]) -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope))
    late = rig.tier.look(scope, tenant="a", route="r", timeout_s=S)
    assert await late.found() is not None
    await rig.tier.purge(**purged)
    assert await rig.find(scope) is None
    late.put(stored(scope), ttl_s=60)
    assert await rig.find(scope) is None
    await rig.put(stored(scope))
    assert await rig.find(scope) is not None


async def test_a_purge_of_others_takes_nothing() -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope))
    await rig.tier.purge(tenant="b")
    await rig.tier.purge(route="s")
    assert await rig.find(scope) is not None


async def test_the_semantic_tier_reads_by_key() -> None:
    rig, scope = Rig(), scope_of(chat())
    answer = stored(scope)
    await rig.put(answer)
    assert await rig.tier.read(scope.key, tenant="a", route="r", timeout_s=S) == answer
    assert await rig.tier.read(b"x" * 16, tenant="a", route="r", timeout_s=S) is None
    await rig.tier.purge(tenant="a")
    assert await rig.tier.read(scope.key, tenant="a", route="r", timeout_s=S) is None


@pytest.mark.parametrize("size", [100, 100_000])
async def test_too_large_an_answer_is_not_kept(size: int) -> None:
    text = "".join(chr(0x4E00 + number % 20_000) for number in range(size))
    for most_bytes, kept in ((1 << 22, True), (size, False)):
        rig, scope = Rig(most_bytes=most_bytes), scope_of(chat())
        await rig.put(stored(scope, text=text))
        assert (await rig.find(scope) is not None) == kept
        assert rig.notes.refusals == ([] if kept else ["too large"])


async def test_the_same_bytes_under_another_key_are_nothing() -> None:
    rig, scope, other = Rig(), scope_of(chat()), scope_of(chat("Who are you?"))
    await rig.put(stored(scope))
    epochs = ("all", "t:a", "r:r")
    value = (await rig.answers.look(scope.key, epochs, timeout_s=S)).value
    assert value is not None
    await rig.answers.put(other.key, value, ttl_s=60)
    assert await rig.find(other) is None
    assert rig.notes.failures == ["unreadable"]


@pytest.mark.parametrize("odd", [b"", b"x", b"t\x00" + bytes(100), b"e\x01" + bytes(100), b"\x80\x04."])
async def test_what_is_none_of_ours_is_nothing(odd: bytes) -> None:
    rig, scope = Rig(), scope_of(chat())
    await rig.put(stored(scope))
    value = (await rig.answers.look(scope.key, ("all", "t:a", "r:r"), timeout_s=S)).value
    assert value is not None
    for whole, failures in ((value[:4] + odd, ["unreadable"]), (odd, [])):
        rig.notes.failures.clear()
        await rig.answers.put(scope.key, whole, ttl_s=60)
        assert await rig.find(scope) is None
        assert rig.notes.failures == failures or len(odd) < 4
    await rig.put(stored(scope))  # and is replaced
    assert await rig.find(scope) is not None


class Failing:
    """A store that fails as it is told, at once or a little later."""

    def __init__(self, error: StoreError, *, at_once: bool) -> None:
        self.error: StoreError | None = error
        self.asked = 0
        self._at_once = at_once

    def look(self, key: bytes, epochs: Sequence[str], *, timeout_s: float) -> Awaitable[Looked]:
        return self._fail(Looked(None, b"e"))

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> "asyncio.Future[Any]":
        return self._fail(None)

    async def purge(self, epoch: str) -> None:
        raise StoreLost("not there")

    async def statistics(self, *, at_most: int = 0) -> Any:
        raise StoreLost("not there")

    def _fail(self, else_: Any) -> "asyncio.Future[Any]":
        self.asked += 1
        if self.error is not None and self._at_once:
            raise self.error
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.error is None:
            future.set_result(else_)
        else:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("error", [StoreLost("gone"), StoreRefused("LOADING wait"), StoreRefused("WRONGTYPE x")])
async def test_a_store_that_fails_is_a_miss_and_counted(error: StoreError, at_once: bool) -> None:
    store, scope = Failing(error, at_once=at_once), scope_of(chat())
    rig = Rig(store)
    look = rig.tier.look(scope, tenant="a", route="r", timeout_s=S)
    assert await look.found() is None
    look.put(stored(scope), ttl_s=60)
    assert store.asked == 1  # what it would have been put under is not known
    assert await rig.tier.read(scope.key, tenant="a", route="r", timeout_s=S) is None
    assert rig.notes.failures == ["look", "look"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("refused", ["OOM command not allowed", "READONLY you can't write", "MISCONF no disk"])
async def test_a_put_that_fails_is_counted(refused: str, at_once: bool) -> None:
    store, scope = Failing(StoreRefused(refused), at_once=at_once), scope_of(chat())
    rig = Rig(store)
    store.error = None
    look = rig.tier.look(scope, tenant="a", route="r", timeout_s=S)
    assert await look.found() is None
    store.error = StoreRefused(refused)
    look.put(stored(scope), ttl_s=60)
    await asyncio.sleep(0)
    assert (rig.notes.failures, rig.notes.stored_bytes) == (["put"], [])


async def test_a_slow_store_costs_one_timeout_and_not_one_a_request() -> None:
    store, scope = Failing(StoreTimeout("slow"), at_once=False), scope_of(chat())
    rig = Rig(store)
    for _ in range(5):
        assert await rig.find(scope) is None
    assert store.asked == 1
    assert rig.notes.failures == ["timeout", *["paused"] * 4]
    rig.clock.advance(1.0)
    store.error = None
    assert await rig.find(scope) is None
    await rig.find(scope)
    assert store.asked == 3


async def test_without_time_left_nobody_is_asked() -> None:
    rig = Rig()
    assert await rig.tier.look(scope_of(chat()), tenant="a", route="r", timeout_s=0.0).found() is None
    assert rig.notes.failures == ["paused"]


async def test_a_purge_that_fails_says_so() -> None:
    with pytest.raises(StoreError):
        await Rig(Failing(StoreLost("gone"), at_once=True)).tier.purge()


async def test_whoever_looked_at_nothing_puts_nothing() -> None:
    rig, scope = Rig(), scope_of(chat())
    look = rig.tier.look(scope, tenant="a", route="r", timeout_s=S)
    look.put(stored(scope), ttl_s=60)
    assert await rig.find(scope) is None
