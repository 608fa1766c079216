"""What workers tell each other of their questions, as bytes. Whoever reads them has checked who wrote them."""

import struct
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from genkan.cache.index.base import Entry, Vector

_KEYS = struct.Struct("<16s16s")
_ADDED = struct.Struct("<16s16sdHHIH")
_SEEN = struct.Struct("<16s16sf?")
_PURGED = struct.Struct("<??HH")


class Added(NamedTuple):
    """An entry is new."""

    entry: Entry


class Removed(NamedTuple):
    """An entry is gone."""

    key: bytes
    partition: bytes


class Observed(NamedTuple):
    """An entry's answer was judged for another question."""

    key: bytes
    partition: bytes
    similarity: float
    same: bool


class Purged(NamedTuple):
    """What is of either is gone; everything if both are None."""

    tenant: str | None
    route: str | None


Record = Added | Removed | Observed | Purged


def as_kept(vector: Vector) -> Vector | None:
    """The vector as all workers have it: in half precision, and then of unit length. None if it had not nearly that.

    Cost: 8 µs.
    """
    if vector.ndim != 1 or not 0.9 < (squared := float(vector @ vector)) < 1.1:  # also if it is no number
        return None
    return _unit((vector / np.float32(squared**0.5)).astype(np.float16))


def written(record: Record) -> bytes:
    """The record as bytes. ValueError: something in it is too long for that."""
    try:
        match record:
            case Added(entry):
                return b"a" + _written_entry(entry)
            case Removed(key, partition):
                return b"r" + _KEYS.pack(key, partition)
            case Observed(key, partition, similarity, same):
                return b"s" + _SEEN.pack(key, partition, similarity, same)
            case Purged(tenant, route):
                names = [(name or "").encode() for name in (tenant, route)]
                lengths = [len(name) for name in names]
                return b"p" + _PURGED.pack(tenant is not None, route is not None, *lengths) + b"".join(names)
    except (struct.error, OverflowError) as error:
        raise ValueError(str(error)) from error


def read(data: bytes) -> Record:
    """What ``written`` gave. ValueError: it is nothing of the kind. Cost: 8 µs for an entry of 384 numbers."""
    kind, body = data[:1], data[1:]
    try:
        if kind == b"a":
            return Added(_read_entry(body))
        if kind == b"r":
            return Removed(*_KEYS.unpack(body))
        if kind == b"s":
            return Observed(*_SEEN.unpack(body))
        if kind == b"p":
            return _read_purge(body)
    except struct.error as error:
        raise ValueError(str(error)) from error
    raise ValueError("a record of an unknown kind")


def _written_entry(entry: Entry) -> bytes:
    tenant, route, text = (name.encode("utf-8", "surrogatepass") for name in (entry.tenant, entry.route, entry.text))
    numbers = entry.vector.astype("<f2")
    head = _ADDED.pack(
        entry.key, entry.partition, entry.expires_s, len(tenant), len(route), len(text), numbers.shape[0]
    )
    return b"".join((head, tenant, route, text, numbers.tobytes()))


def _read_entry(body: bytes) -> Entry:
    key, partition, expires_s, *lengths, dim = _ADDED.unpack_from(body)
    ends = [_ADDED.size]
    for length in lengths:
        ends.append(ends[-1] + length)
    if len(body) != ends[-1] + 2 * dim:
        raise ValueError("an entry of another length than it says")
    tenant, route, text = (body[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise(ends))
    vector = _unit(np.frombuffer(body, "<f2", offset=ends[-1])) if dim else np.empty(0, np.float32)
    return Entry(key, partition, text, vector, expires_s, tenant, route)


def _read_purge(body: bytes) -> Purged:
    has_tenant, has_route, *lengths = _PURGED.unpack_from(body)
    names = body[_PURGED.size :]
    if len(names) != sum(lengths):
        raise ValueError("a purge of another length than it says")
    tenant, route = names[: lengths[0]].decode(), names[lengths[0] :].decode()
    return Purged(tenant if has_tenant else None, route if has_route else None)


def _unit(half: np.ndarray[tuple[int], np.dtype[np.float16]]) -> Vector:
    single = half.astype(np.float32)
    length = float(single @ single) ** 0.5
    if not length > 0:
        raise ValueError("a vector without a length")
    vector: Vector = single / np.float32(length)
    return vector
