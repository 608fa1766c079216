"""Under what salt a tenant's prompts are cached by a server that many tenants share.

Theory. vLLM and SGLang find what they computed of a prompt by its tokens and a ``cache_salt``. Without one, who sends
the beginning of somebody else's prompt gets an answer sooner, and so learns that it was sent. With a salt of the
tenant's own nobody finds but what that tenant sent. The salt is a keyed digest: it does not tell the server who the
tenant is, and a client that could put one into its request could not guess another's. What a client gives itself is
digested with it, so it can only divide what is the tenant's.
Source: vLLM, "Cache Isolation for Security" (RFC 16016), of which salts have at most 128 characters, none of them a
slash; SGLang's ``cache_salt``, and its ``extra_key``, which divides in the same way.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

import orjson

from genkan.config import OpenAiUpstreamConfig

SALT: Final = "cache_salt"
EXTRA_KEY: Final = "extra_key"
_PURPOSE: Final = b"genkan prefix salt\0"


def is_salted(upstream: OpenAiUpstreamConfig) -> bool:
    """Whether tenants are kept apart in the upstream's prefix cache."""
    return upstream.kind in ("vllm", "sglang") and not upstream.share_prefix_cache


class PrefixSalts:
    """The salts under one secret; gateways with the same secret have the same."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _PURPOSE, hashlib.sha256)

    def of(self, tenant: str, raw: Mapping[str, Any]) -> str:
        """The salt of a request with that body: 64 hexadecimal digits. Some 3 µs."""
        parts = orjson.dumps([tenant, raw.get(SALT), raw.get(EXTRA_KEY)])  # JSON: no two lists are written alike
        return hmac.digest(self._key, parts, hashlib.sha256).hex()

    def apply(self, body: dict[str, Any], tenant: str) -> None:
        """Put the salt into a request's ``body``, in place of what the client gave."""
        body[SALT] = self.of(tenant, body)
        body.pop(EXTRA_KEY, None)
