"""Where the records of API keys are kept, each under the digest of its key. What a record says is not looked into.

Every change gives the table a new version, so that asking whether anything changed is one ``GET``. Versions are
microseconds of Redis' clock that never go back, not a count: one that loses its last second in a crash would count
the next change to a number that has been seen.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from genkan.errors import StoreRefused
from genkan.store.command import Script, packed
from genkan.store.resp import RespClient

_WHOLE_S = 5.0  # to read or change it: a megabyte for some three thousand keys, and no request waits for it


class KeyTable(NamedTuple):
    """All that is kept."""

    version: int  # 0 until the first key was kept; after that never 0 again, also without any record
    fingerprint: str  # of the secret under which the digests were made; "" before the first key
    records: dict[str, bytes]  # by digest


class Edit(NamedTuple):
    """One record's change, from what it must be to what it becomes; None: not there."""

    digest: str
    before: bytes | None
    after: bytes | None


class KeyStore(Protocol):
    """All methods raise StoreError; nothing is tried twice."""

    async def version(self) -> int:
        """That of the table as it is now. One cheap round trip."""

    async def table(self) -> KeyTable:
        """All of it. One round trip."""

    async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
        """Make all the changes; False, and none of them, if a record is not what its edit says. One round trip.

        Raises StoreRefused with code ``OTHERSECRET`` if there are records made under another secret.
        """


class MemoryKeyStore:
    """A table in this process. Nobody else sees it."""

    def __init__(self) -> None:
        self._version = 0
        self._fingerprint = ""
        self._records: dict[str, bytes] = {}

    async def version(self) -> int:
        return self._version

    async def table(self) -> KeyTable:
        return KeyTable(self._version, self._fingerprint, dict(self._records))

    async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
        if self._records and self._fingerprint != fingerprint:
            raise StoreRefused("OTHERSECRET the keys were hashed under another secret")
        if any(self._records.get(edit.digest) != edit.before for edit in edits):
            return False
        for edit in edits:
            if edit.after is None:
                self._records.pop(edit.digest, None)
            else:
                self._records[edit.digest] = edit.after
        self._fingerprint = fingerprint
        self._version = max(self._version + 1, time.time_ns() // 1000)
        return True


_EDIT, _READ = Script.load("edit_keys"), Script.load("read_keys")


class RedisKeyStore:
    """The table in Redis: a hash, its version and the secret's fingerprint beside it."""

    def __init__(self, client: RespClient, prefix: str) -> None:
        self._client = client
        self._keys = [f"{prefix}:keys", f"{prefix}:keys:version", f"{prefix}:keys:secret"]
        self._get_version = packed("GET", self._keys[1])

    async def version(self) -> int:
        return int(await self._client.send(self._get_version) or 0)

    async def table(self) -> KeyTable:
        version, fingerprint, flat = await self._client.run(_READ, self._keys, (), timeout_s=_WHOLE_S)
        records = {digest.decode(): record for digest, record in zip(flat[::2], flat[1::2], strict=True)}
        return KeyTable(int(version), fingerprint.decode(), records)

    async def edit(self, edits: Sequence[Edit], fingerprint: str) -> bool:
        arguments: list[bytes | str] = [fingerprint]
        for edit in edits:
            arguments += [edit.digest, edit.before or b"", edit.after or b""]
        return bool(await self._client.run(_EDIT, self._keys, arguments, timeout_s=_WHOLE_S))
