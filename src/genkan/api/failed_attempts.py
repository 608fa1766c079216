"""Counts wrong API keys by where they come from, so that who tries keys is told to stop."""

import ipaddress
from collections import OrderedDict

from genkan.clock import Clock
from genkan.store.bucket import FULL, Bucket

_A_MINUTE = Bucket(limit=20, window_us=60_000_000, burst=20)
_MAX_PEERS = 4096
_UNKNOWN = "unknown"  # the place of all who do not come from an IP address
#: An IP address with the name of an interface has no more. A proxy passes on what its clients call themselves.
LONGEST_ADDRESS = 64


class FailedAttempts:
    """Twenty a minute from each address. Of the last 4,096 addresses; who was forgotten begins anew.

    A key cannot be found by trying, with this or without: it is there to make noise stop. So it never refuses a right
    key, and nobody can lock out those who share an address with them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: OrderedDict[str, int] = OrderedDict()

    def add(self, peer: str) -> float:
        """Count one more; the seconds to wait before the next, 0 while they are few."""
        place, now_us = _place(peer), int(self._clock.monotonic() * 1e6)
        before = self._states.pop(place, FULL)
        after = _A_MINUTE.take(before, now_us, 1)
        self._states[place] = before if after is None else after
        if len(self._states) > _MAX_PEERS:
            self._states.popitem(last=False)
        return 0.0 if after is not None else (_A_MINUTE.retry_us(before, now_us, 1) or 0) / 1e6


def _place(peer: str) -> str:
    """An address, or the network of an IPv6 address: whoever has one has 2**64. At most 43 characters."""
    if len(peer) > LONGEST_ADDRESS:
        return _UNKNOWN
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return _UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address.packed, 64), strict=False))
