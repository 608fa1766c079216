"""Bytes that only we could have written: what is read from Redis is what was put there, under that key, by us.

Whoever can write to Redis can lose answers, and put back older ones of the same key; he can neither make one up nor
move one to another key. Without encryption what is stored can be read there, by him and in backups.

A sealed value is two bytes that say how it is sealed, and then

* encrypted: a nonce of 12 bytes, AES-256-GCM's ciphertext, its tag of 16 bytes. The nonce is random: for 2^32 values
  under one secret two are the same with a chance of 2^-33 (NIST SP 800-38D, 8.3).
* else: a tag of 16 bytes, keyed BLAKE2b over all the rest, and the value.

What is over 1 KB is compressed first, if it gets smaller (zlib, level 1): text halves.
"""

import hashlib
import hmac
import os
import zlib
from typing import Protocol

from genkan.cache.derived_key import derived_key
from genkan.errors import GenkanError

MAX_PLAIN_BYTES = 64 << 20
_COMPRESSED_FROM_BYTES = 1024
_PLAIN, _DEFLATED = b"\x00", b"\x01"
_TAG_BYTES = 16


class Unreadable(GenkanError):
    """It is damaged, was sealed with another secret, otherwise, or for something else, or is too large."""


class _Box(Protocol):
    mark: bytes

    def lock(self, plain: bytes, bound_to: bytes) -> bytes: ...

    def unlock(self, locked: bytes, bound_to: bytes) -> bytes: ...


class Sealer:
    """Seals and opens. One secret, one way: values sealed with another are not readable."""

    def __init__(self, secret: bytes, *, encrypt: bool, max_plain_bytes: int = MAX_PLAIN_BYTES) -> None:
        self._box: _Box = _Encrypted(secret) if encrypt else _Tagged(secret)
        self._max_plain_bytes = max_plain_bytes

    def seal(self, plain: bytes, bound_to: bytes) -> bytes:
        """``plain`` for a place that has ``bound_to`` as its name; it can be opened for no other.

        Cost: about 12 µs for 1 KB of text, and up to a millisecond for 64 KB, most of it compressing; `open` half.
        """
        form, body = _PLAIN, plain
        if len(plain) > _COMPRESSED_FROM_BYTES and len(deflated := zlib.compress(plain, 1)) < len(plain):
            form, body = _DEFLATED, deflated
        head = self._box.mark + form
        return head + self._box.lock(body, head + bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """What was sealed for ``bound_to``. Raises Unreadable. Memory: ``max_plain_bytes`` at most."""
        head = sealed[:2]
        if head[:1] != self._box.mark or head[1:] not in (_PLAIN, _DEFLATED):
            raise Unreadable("it was not sealed as we do")
        body = self._box.unlock(sealed[2:], head + bound_to)
        return body if head[1:] == _PLAIN else self._inflated(body)

    def _inflated(self, deflated: bytes) -> bytes:
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(deflated, self._max_plain_bytes)
        except zlib.error:
            raise Unreadable("it cannot be inflated") from None
        if not inflater.eof or inflater.unused_data:
            raise Unreadable("it is larger than what is sealed, or not whole")
        return plain


class _Tagged:
    """In the clear, with a tag. Keyed BLAKE2b is a MAC by design, and half of what HMAC costs (RFC 7693, 2.9)."""

    mark = b"t"

    def __init__(self, secret: bytes) -> None:
        key = derived_key(secret, b"tag")
        self._keyed = hashlib.blake2b(digest_size=_TAG_BYTES, key=key, person=b"genkan.sealed")

    def lock(self, plain: bytes, bound_to: bytes) -> bytes:
        return self._tag(plain, bound_to) + plain

    def unlock(self, locked: bytes, bound_to: bytes) -> bytes:
        plain = locked[_TAG_BYTES:]
        if not hmac.compare_digest(locked[:_TAG_BYTES], self._tag(plain, bound_to)):
            raise Unreadable("its tag is not ours")
        return plain

    def _tag(self, plain: bytes, bound_to: bytes) -> bytes:
        tag = self._keyed.copy()
        tag.update(len(bound_to).to_bytes(4, "big"))  # where one ends and the other begins
        tag.update(bound_to)
        tag.update(plain)
        return tag.digest()


class _Encrypted:
    """AES-256-GCM."""

    mark = b"e"
    _NONCE_BYTES = 12

    def __init__(self, secret: bytes) -> None:
        # Here, as it takes a while to load, and few encrypt.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._invalid = InvalidTag
        self._cipher = AESGCM(derived_key(secret, b"encryption"))

    def lock(self, plain: bytes, bound_to: bytes) -> bytes:
        nonce = os.urandom(self._NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def unlock(self, locked: bytes, bound_to: bytes) -> bytes:
        if len(locked) < self._NONCE_BYTES + _TAG_BYTES:
            raise Unreadable("it is cut off")
        nonce = locked[: self._NONCE_BYTES]
        try:
            return self._cipher.decrypt(nonce, locked[self._NONCE_BYTES :], bound_to)
        except self._invalid:
            raise Unreadable("its tag is not ours") from None
