"""Makes API keys, lists, revokes and rotates them. What is kept of one is its record; the key is told once."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from genkan.clock import Clock
from genkan.errors import InvalidRequest, StoreRefused, UnknownPath
from genkan.gateway.api_key import ApiKey
from genkan.gateway.key_format import HINT_CHARS, digest, fingerprint, mint
from genkan.gateway.key_records import MOST_AHEAD_S, NewKey, ended_s, read_record, write_record
from genkan.store.keys import Edit, KeyStore

KEEP_S = 90 * 86_400.0  # how long the record of a key that ended is kept
_TRIES = 5
_PRUNED_AT_ONCE = 100


class Issued(NamedTuple):
    """A new key and its record."""

    text: str  # the key itself, which is nowhere else
    key: ApiKey

    def __repr__(self) -> str:
        return f"Issued(text=…{self.key.hint}, key={self.key})"


class _Kept(NamedTuple):
    digest: str
    record: bytes
    key: ApiKey


class KeyIssuer:
    """All methods raise StoreError; after StoreTimeout it is not known whether the change was made."""

    def __init__(self, store: KeyStore, secret: bytes, clock: Clock) -> None:
        self._store = store
        self._secret = secret
        self._clock = clock

    async def create(self, wanted: NewKey) -> Issued:
        """A new key. Raises InvalidRequest where ``wanted`` ends twice, before it begins, or in more than 100 years."""
        now_s = self._clock.unix()
        issued = self._mint(
            ApiKey(
                id=f"key_{secrets.token_hex(8)}",
                hint="",
                tenant=wanted.tenant,
                name=wanted.name,
                role=wanted.role,
                created_s=now_s,
                expires_s=_expiry(wanted, now_s),
                models=None if wanted.models is None else tuple(wanted.models),
                limits=wanted.limits,
                budgets=tuple(wanted.budgets),
            )
        )

        def add(kept: list[_Kept]) -> list[Edit]:
            return [self._added(issued), *_pruned(kept, now_s)]

        await self._edit(add)
        return issued

    async def listed(self, tenant: str | None = None) -> list[ApiKey]:
        """Every key, also those that have ended, the oldest first; of one tenant, or of all."""
        keys = [kept.key for kept in await self._kept() if tenant in (None, kept.key.tenant)]
        return sorted(keys, key=lambda key: (key.created_s, key.id))

    async def revoke(self, key_id: str) -> ApiKey:
        """End a key now; one that was revoked stays so as it was. Raises UnknownPath if there is no such key."""
        now_s = self._clock.unix()
        ended = []

        def end(kept: list[_Kept]) -> list[Edit]:
            it = _find(kept, key_id)
            ended.append(it.key if it.key.revoked_s is not None else replace(it.key, revoked_s=now_s))
            return [Edit(it.digest, it.record, write_record(ended[-1]))]

        await self._edit(end)
        return ended[-1]

    async def rotate(self, key_id: str, *, grace_s: float = 0.0) -> Issued:
        """A new key with the same rights; the old one ends after ``grace_s``, or when it would have.

        The new one is its own, with an id, limits in use and budgets in use of its own; it expires when the old one
        would have. Raises UnknownPath if there is no such key, and InvalidRequest if it has ended.
        """
        now_s = self._clock.unix()
        issued = []

        def swap(kept: list[_Kept]) -> list[Edit]:
            it = _find(kept, key_id)
            ends_s = ended_s(it.key)
            if ends_s is not None and ends_s <= now_s:
                raise InvalidRequest(f"The API key '{key_id}' has ended; only one in use can be rotated.", param="id")
            new = replace(it.key, id=f"key_{secrets.token_hex(8)}", created_s=now_s)
            issued.append(self._mint(new))
            if grace_s > 0:
                old = replace(it.key, expires_s=min(now_s + grace_s, it.key.expires_s or now_s + grace_s))
            else:
                old = replace(it.key, revoked_s=now_s)
            return [self._added(issued[-1]), Edit(it.digest, it.record, write_record(old))]

        await self._edit(swap)
        return issued[-1]

    def _mint(self, key: ApiKey) -> Issued:
        text = mint()
        return Issued(text, replace(key, hint=text[-HINT_CHARS:]))

    def _added(self, issued: Issued) -> Edit:
        return Edit(digest(self._secret, issued.text.encode()), None, write_record(issued.key))

    async def _kept(self) -> list[_Kept]:
        """All that can be read: what cannot opens nothing, and must not keep anyone from revoking what does."""
        kept = []
        for its_digest, record in (await self._store.table()).records.items():
            with suppress(ValueError):
                kept.append(_Kept(its_digest, record, read_record(record)))
        return kept

    async def _edit(self, decide: Callable[[list[_Kept]], list[Edit]]) -> None:
        """Make the edits that ``decide`` makes of the records; anew if somebody was faster."""
        for _ in range(_TRIES):
            if await self._store.edit(decide(await self._kept()), fingerprint(self._secret)):
                return
        raise StoreRefused("BUSY others change the API keys all the time")


def _expiry(wanted: NewKey, now_s: float) -> float | None:
    if wanted.expires_in_s is not None:
        if wanted.expires_at is not None:
            raise InvalidRequest("A key has either 'expires_in_s' or 'expires_at'.", param="expires_at")
        return now_s + wanted.expires_in_s
    if wanted.expires_at is not None and not now_s < wanted.expires_at <= now_s + MOST_AHEAD_S:
        raise InvalidRequest(
            "'expires_at' must be in the future, at most 100 years ahead, in seconds since 1970.", param="expires_at"
        )
    return wanted.expires_at


def _find(kept: list[_Kept], key_id: str) -> _Kept:
    for it in kept:
        if it.key.id == key_id:
            return it
    raise UnknownPath(f"There is no API key with the id '{key_id[:100]}'.")


def _pruned(kept: list[_Kept], now_s: float) -> list[Edit]:
    """Without the records of keys that ended long ago."""
    old = [it for it in kept if (ends_s := ended_s(it.key)) is not None and ends_s < now_s - KEEP_S]
    return [Edit(it.digest, it.record, None) for it in old[:_PRUNED_AT_ONCE]]
