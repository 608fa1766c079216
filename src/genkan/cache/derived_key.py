"""One secret, and a key of its own for each purpose."""

import hashlib
import hmac


def derived_key(secret: bytes, purpose: bytes) -> bytes:
    """32 bytes that tell nothing of ``secret``, nor of the key for any other purpose.

    Source: RFC 5869 (HKDF) with SHA-256, no salt, one block.
    """
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, b"genkan/cache/" + purpose + b"\x01", hashlib.sha256)
