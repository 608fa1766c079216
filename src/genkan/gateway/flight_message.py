"""What workers say to each other about an answer that one of them has asked for. No I/O.

A message is a head of fixed length, and a body sealed for exactly that head: its kind, the request's key, who says it,
which of that worker's followings it is about, and its number in it. So nobody who can only write to Redis can make one
up, and one that is repeated, lost or out of order is noticed.
"""

import struct
from enum import Enum
from typing import Any, NamedTuple

import orjson

from genkan.cache.sealer import Sealer, Unreadable
from genkan.errors import RequestError, UpstreamRefused

KEY_BYTES = 16
WORKER_CHARS = 16  # of a worker's name
FOLLOWING_BYTES = 8
_HEAD = struct.Struct(f">1sc{KEY_BYTES}s{WORKER_CHARS}s{FOLLOWING_BYTES}sI")
_VERSION = b"1"


class Kind(Enum):
    """What is said. The first two by who follows, the others by who answers."""

    FOLLOW = b"f"  # tell me all of it
    LEAVE = b"l"  # nobody waits for it here any more
    ALIVE = b"a"  # nothing new
    BEGUN = b"n"  # who answers
    CHUNKS = b"c"  # payloads of a stream, one a line
    BODY = b"b"  # a piece of a whole answer
    END = b"e"  # that was all; says what it took
    FAILED = b"x"  # with an error, which it says
    GONE = b"g"  # there is no such answer under way here


_KINDS = {kind.value: kind for kind in Kind}


class Message(NamedTuple):
    """One message. ``worker`` says it; ``following`` is the number that the follower has given to its following."""

    kind: Kind
    key: bytes
    worker: str
    following: bytes
    number: int = 0  # from 0, in one direction
    body: bytes = b""

    def sealed(self, sealer: Sealer) -> bytes:
        """As it is sent. Cost: about 3 µs, and 15 µs a KB beyond the first, which is compressed."""
        head = _HEAD.pack(
            _VERSION, self.kind.value, self.key, self.worker.encode(), self.following, self.number & 0xFFFFFFFF
        )
        return head + sealer.seal(self.body, head)

    @classmethod
    def read(cls, data: bytes, sealer: Sealer) -> "Message | None":
        """What `sealed` gave; None for anything else."""
        head, sealed = data[: _HEAD.size], data[_HEAD.size :]
        if len(head) < _HEAD.size:
            return None
        version, mark, key, worker, following, number = _HEAD.unpack(head)
        kind = _KINDS.get(mark)
        if version != _VERSION or kind is None:
            return None
        try:
            return cls(kind, key, worker.decode(), following, number, sealer.open(sealed, head))
        except (Unreadable, UnicodeDecodeError):
            return None


class Names(NamedTuple):
    """The body of BEGUN, and of END: who answers, and what its upstream says that it took, once that is known."""

    deployment: str
    model: str
    usage: dict[str, Any] | None = None

    def as_bytes(self) -> bytes:
        return orjson.dumps([self.deployment, self.model, self.usage])

    @classmethod
    def read(cls, body: bytes) -> "Names":
        """Of a message of our own, by this version or another. Raises ValueError or TypeError."""
        deployment, model, usage = orjson.loads(body)
        if type(deployment) is not str or type(model) is not str or not (usage is None or type(usage) is dict):
            raise TypeError("names and usage were expected")
        return cls(deployment, model, usage)


def error_as_bytes(error: RequestError) -> bytes:
    """The body of FAILED."""
    kind = [error.message, error.status, error.type, error.code, error.param, error.retry_after_s]
    return orjson.dumps([*kind, error.should_retry])


def read_error(body: bytes) -> RequestError:
    """An error that clients get as they would have got the one that was sent. Raises ValueError or TypeError."""
    message, status, kind, code, param, retry_after_s, should_retry = orjson.loads(body)
    error = UpstreamRefused(
        message, upstream="", status=status, kind=kind, code=code, param=param, retry_after_s=retry_after_s
    )
    error.should_retry = should_retry
    return error
