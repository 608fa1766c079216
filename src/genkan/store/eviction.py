"""Whether a Redis may drop what is kept in it when its memory is full.

Source: https://redis.io/docs/latest/develop/reference/eviction/.
"""

import logging
import re

from genkan.errors import StoreError
from genkan.store.address import Address
from genkan.store.resp import RespClient

_WITHIN_S = 2.0

_log = logging.getLogger("genkan.store")


class EvictionCheck:
    """Tells the log, once, if limits and budgets can vanish from ``address``. A Redis that does not say is believed."""

    def __init__(self, client: RespClient, address: Address) -> None:
        self._client = client
        self._address = address
        self._has_told = False

    async def run(self) -> None:
        """One call. Raises nothing if Redis is not there, or does not permit INFO."""
        if self._has_told:
            return
        try:
            info = await self._client.call("INFO", "memory", timeout_s=_WITHIN_S)
        except StoreError:
            return
        policy = evicting_policy(info) if isinstance(info, bytes) else None
        if policy is not None and not self._has_told:
            self._has_told = True
            _log.error(
                "Redis may drop limits, budgets and keys when its memory is full, at %s: its maxmemory-policy is %s, "
                "and must be noeviction",
                self._address,
                policy,
            )


def evicting_policy(info: bytes) -> str | None:
    """The ``maxmemory_policy`` that INFO tells; None if nothing is ever evicted, or it cannot be told."""
    most = re.search(rb"^maxmemory:(\d+)", info, re.MULTILINE)
    policy = re.search(rb"^maxmemory_policy:([\w-]+)", info, re.MULTILINE)
    if most is None or policy is None or int(most[1]) == 0 or policy[1] == b"noeviction":
        return None
    return policy[1].decode()
