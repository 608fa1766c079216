"""Every API key, in each worker's memory: who presents one is known without a round trip.

The table is read whole at start and again whenever its version has changed, for which Redis is asked twice a second: a
key that is revoked stops within a second everywhere, and one that was just created works as soon. While Redis is lost
the table last read is believed for ``trust_s``, and then nothing is: a key that may have been revoked opens nothing.
"""

import asyncio
import contextlib
import hmac
import logging
import math
from enum import Enum, auto
from typing import NamedTuple

from genkan.clock import Clock
from genkan.errors import StoreError
from genkan.gateway.api_key import ApiKey
from genkan.gateway.key_format import digester, fingerprint, looks_right
from genkan.gateway.key_records import ended_s, read_record
from genkan.gateway.seen_keys import SeenKeys
from genkan.store.keys import KeyStore, KeyTable

_EVERY_S = 0.5
_log = logging.getLogger("genkan.keys")


class _Trouble(Enum):
    NONE = auto()
    LOST = auto()
    OTHER_SECRET = auto()


class _Entry(NamedTuple):
    record: bytes
    digest: str
    key: ApiKey
    ends_s: float  # by the clock on the wall


class KeyRing:
    """The keys as of half a second ago."""

    def __init__(
        self, store: KeyStore, secret: bytes, clock: Clock, *, trust_s: float, seen: SeenKeys | None = None
    ) -> None:
        """``seen``: where it is noted that there were keys, should the store lose all; None: nowhere."""
        self._store = store
        self._seen = seen
        self._digest = digester(secret)
        self._fingerprint = fingerprint(secret)
        self._clock = clock
        self._trust_s = max(trust_s, 2 * _EVERY_S)
        self._entries: dict[str, _Entry] = {}
        self._ids: dict[str, ApiKey] = {}
        self._version: int | None = None  # None: to be read whatever it is
        self._any: bool | None = None  # None: not known yet
        self._confirmed_s = -math.inf
        self._trouble = _Trouble.NONE
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the table, and keep it up to date from now on. Never raises for Redis; what is wrong is logged."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_up(), name="key ring")

    async def aclose(self) -> None:
        """No longer keep up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def any(self) -> bool:
        """Whether a key was ever created, also if it was revoked since; True while it is not known."""
        return self._any is not False

    @property
    def is_stale(self) -> bool:
        """Whether the table is not to be believed: never read, too long ago, or made under another secret."""
        return self._clock.monotonic() - self._confirmed_s > self._trust_s

    @property
    def version(self) -> int:
        """The table's; 0 until it was read, and while there is none."""
        return self._version or 0

    def find(self, presented: bytes) -> ApiKey | None:
        """The key, if it is one and can be used now. 1.5 µs; what does not look right costs 0.5 µs at any length.

        What is compared are digests under a secret, so the time it takes tells nothing of a key.
        """
        if not looks_right(presented):
            return None
        its_digest = self._digest(presented)
        entry = self._entries.get(its_digest)
        if entry is None or not hmac.compare_digest(entry.digest, its_digest) or self._clock.unix() >= entry.ends_s:
            return None
        return entry.key

    def by_id(self, key_id: str) -> ApiKey | None:
        """The record of that name, also of a key that has ended."""
        return self._ids.get(key_id)

    def keys(self) -> list[ApiKey]:
        """The keys that can be used now."""
        now_s = self._clock.unix()
        return [entry.key for entry in self._entries.values() if now_s < entry.ends_s]

    async def refresh(self) -> None:
        """Ask whether the table has changed, and read it if so. Never raises StoreError."""
        try:
            if self._version is None or await self._store.version() != self._version:
                self._take(await self._store.table())
        except StoreError as error:
            self._version = None
            self._say(
                _Trouble.LOST,
                f"the API keys cannot be read ({error}); those last read are believed for {self._trust_s:g} s",
            )
            return
        if self._version is not None:
            self._confirmed_s = self._clock.monotonic()
            self._say(_Trouble.NONE, "the API keys can be read again")

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 - whatever goes wrong, revoked keys must end
                _log.exception("a bug: the API keys were not refreshed")

    def _take(self, table: KeyTable) -> None:
        if table.records and table.fingerprint != self._fingerprint:
            self._version = None
            self._confirmed_s = -math.inf
            self._say(
                _Trouble.OTHER_SECRET,
                "the API keys in Redis were hashed under another secret than this server's, so none can be checked: "
                "give it theirs, in the variable that keys.secret_env names or the file keys.secret in redis.data_dir",
            )
            return
        entries = [self._entry(its_digest, record) for its_digest, record in table.records.items()]
        self._entries = {entry.digest: entry for entry in entries if entry is not None}
        self._ids = {entry.key.id: entry.key for entry in self._entries.values()}
        self._any = self._were_any(table)
        self._version = table.version

    def _were_any(self, table: KeyTable) -> bool:
        """Once keys were seen nothing opens again, also if Redis is emptied under the server or while it is down."""
        seen = self._seen
        if table.version > 0:
            if seen is not None and self._any is not True:
                seen.note()
            return True
        if self._any is not True and (seen is None or not seen.is_noted()):
            return False
        how = "restart" if seen is None else f"delete {seen.path} and restart"
        _log.error(
            "there were API keys, and Redis has none: it lost its data or is another one, so every request is refused; "
            "`genkan keys create` makes new ones, and to begin anew without any, %s",
            how,
        )
        return True

    def _entry(self, its_digest: str, record: bytes) -> _Entry | None:
        known = self._entries.get(its_digest)
        if known is not None and known.record == record:
            return known
        try:
            key = read_record(record)
        except ValueError as error:
            _log.error("an API key opens nothing, because its record cannot be read: %s", error)
            return None
        ends_s = ended_s(key)
        return _Entry(record, its_digest, key, math.inf if ends_s is None else ends_s)

    def _say(self, trouble: _Trouble, message: str) -> None:
        """Once when it begins, and once when it is over."""
        if trouble is not self._trouble:
            _log.log(logging.INFO if trouble is _Trouble.NONE else logging.ERROR, message)
            self._trouble = trouble
