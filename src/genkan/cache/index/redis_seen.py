"""Observations that lie in Redis, a list for each entry, sealed one by one."""

from collections import OrderedDict
from collections.abc import Sequence

from genkan.cache.index.base import MAX_SEEN, Seen
from genkan.cache.index.record import Observed, read, written
from genkan.cache.sealer import Sealer, Unreadable
from genkan.errors import StoreRefused
from genkan.store.command import packed
from genkan.store.connection import Reply
from genkan.store.resp import RespClient

_REMEMBERED = 1000  # entries that were found lately


class RedisSeen:
    """Reading them goes with a search's other commands; what was read is remembered until ``of`` is asked for it."""

    def __init__(self, client: RespClient, prefix: str, sealer: Sealer, longest_s: float) -> None:
        self._client = client
        self._prefix = prefix
        self._sealer = sealer
        self._longest_ms = int(longest_s * 1e3)
        self._lately: OrderedDict[bytes, Sequence[Seen]] = OrderedDict()

    def name(self, key: bytes) -> str:
        """Where those of an entry lie."""
        return f"{self._prefix}:seen:{key.hex()}"

    def reading(self, key: bytes) -> bytes:
        """The command whose reply ``found`` takes."""
        return packed("LRANGE", self.name(key), -MAX_SEEN, -1)

    def found(self, key: bytes, reply: Reply) -> None:
        """Remember what Redis said of an entry."""
        self._lately[key] = [seen for one in reply if (seen := self._opened(key, one))] if type(reply) is list else ()
        self._lately.move_to_end(key)
        if len(self._lately) > _REMEMBERED:
            self._lately.popitem(last=False)

    def of(self, key: bytes) -> Sequence[Seen]:
        """Those of an entry that was found lately, oldest first."""
        return tuple(self._lately.get(key, ()))

    def forget(self, key: bytes) -> None:
        """Of what is remembered here."""
        self._lately.pop(key, None)

    async def saw(self, observed: Observed) -> None:
        """Add one, also to what is remembered. Raises StoreError."""
        name, key = self.name(observed.key), observed.key
        replies = await self._client.pipeline(
            [
                packed("RPUSH", name, self._sealer.seal(written(observed), b"seen:" + key)),
                packed("LTRIM", name, -MAX_SEEN, -1),
                packed("PEXPIRE", name, self._longest_ms),
            ]
        )
        if isinstance(replies[0], StoreRefused):
            raise replies[0]
        if key in self._lately:
            self._lately[key] = [*self._lately[key], (observed.similarity, observed.same)][-MAX_SEEN:]

    def _opened(self, key: bytes, sealed: bytes) -> Seen | None:
        try:
            record = read(self._sealer.open(sealed, b"seen:" + key))
        except (Unreadable, ValueError):
            return None
        return (record.similarity, record.same) if isinstance(record, Observed) else None
