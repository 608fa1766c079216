"""Every command that a Redis executes, also those of scripts, with nothing left out."""

import re
import struct
from collections.abc import Generator
from contextlib import contextmanager

import redis

_MARK = "the-end-of-the-watch"


class Watch:
    """What was executed while it was on."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def taken(self, window: str) -> list[tuple[int, str]]:
        """What was taken from a sliding window: when, in µs of Redis' clock, and by which request, in that order."""
        mine = (line.split() for line in self.commands if line.startswith(f"ZADD {window} NX "))
        return sorted((int(at), member.partition(":")[2]) for _, _, _, at, member in mine)

    def written(self, bucket: str) -> list[int]:
        """When a token bucket was drawn on, in µs of Redis' clock, in order."""
        form = re.compile(rf"SET {re.escape(bucket)} (.*) (?:KEEPTTL|PXAT \d+)", re.DOTALL)
        return [round(_first_double(found[1])) for line in self.commands if (found := form.fullmatch(line))]


def _first_double(shown: str) -> float:
    """Of bytes as MONITOR shows them, with escapes as C has them."""
    (value,) = struct.unpack_from("<d", shown.encode("latin-1").decode("unicode_escape").encode("latin-1"))
    return float(value)


@contextmanager
def watching(url: str) -> Generator[Watch, None, None]:
    """The commands are there at the end of the block."""
    watch = Watch()
    with redis.Redis.from_url(url, decode_responses=True) as client, client.monitor() as monitor:
        yield watch
        with redis.Redis.from_url(url) as other:
            other.echo(_MARK)
        for seen in monitor.listen():
            if _MARK in seen["command"]:
                return
            watch.commands.append(seen["command"])


def most_within(times_us: list[int], window_s: float) -> int:
    """The most of ``times_us``, which are in order, that lie in any stretch of ``window_s``."""
    window_us, first, most = round(window_s * 1e6), 0, 0
    for place, at in enumerate(times_us):
        while at - times_us[first] >= window_us:
            first += 1
        most = max(most, place - first + 1)
    return most
