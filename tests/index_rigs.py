"""Questions for an index, whoever keeps it, and what stands around one."""

import hashlib
import time
from collections import Counter

import numpy as np

from genkan.cache.index.base import Entry, Matrix, Vector
from genkan.cache.index.feed import Feed
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.observer import Unobserved
from genkan.cache.sealer import Sealer
from genkan.clock import SystemClock
from genkan.store.address import parse_address
from genkan.store.resp import RespClient

DIM = 32
TTL_S = 3600.0
SEALER = Sealer(b"a secret of the tests", encrypt=False)


class Noted(Unobserved):
    """Counts what failed."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()

    def failed(self, what: str) -> None:
        self.failures[what] += 1


class SetClock:
    """The machine's, or what it is set to be ahead of it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def unix(self) -> float:
        return time.time() + self.ahead_s


def name(label: str) -> bytes:
    """16 bytes, as keys and partitions have."""
    return hashlib.blake2b(label.encode(), digest_size=16).digest()


def vectors(count: int, *, seed: int = 0, dim: int = DIM) -> Matrix:
    """Unit vectors, any two nearly at right angles if ``dim`` is large."""
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    unit: Matrix = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def near(vector: Vector, *, seed: int = 0, apart: float = 0.1) -> Vector:
    """A unit vector close by."""
    moved = vector + apart * vectors(1, seed=seed, dim=len(vector))[0]
    unit: Vector = moved / np.float32(np.linalg.norm(moved))
    return unit


def entry(
    label: str,
    vector: Vector,
    *,
    partition: str = "p",
    ttl_s: float = TTL_S,
    tenant: str = "acme",
    route: str = "chat",
) -> Entry:
    """A question whose text is its label."""
    return Entry(name(label), name(partition), label, vector, time.time() + ttl_s, tenant, route)


def worker(
    client: RespClient, url: str, *, observer: Noted | None = None, sealer: Sealer = SEALER, max_entries: int = 1000
) -> MemoryIndex:
    """The index of one worker, not started; ``client`` writes for it."""
    clock, noted = SystemClock(), observer or Noted()
    feed = Feed(
        client,
        parse_address(url),
        "genkan:questions",
        sealer=sealer,
        clock=clock,
        observer=noted,
        longest_s=TTL_S,
        max_records=2000,
        connect_s=2.0,
        timeout_s=1.0,
    )
    return MemoryIndex(clock, noted, max_entries=max_entries, feed=feed)
