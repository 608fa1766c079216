"""Who may find whose prompts in the prefix cache.

A namespace is 32 bytes. The first 16 are a keyed hash of the tenant, so that all of a tenant's can be purged by this
prefix; the others of the tenant and the salt that its request brought. A salt can so only split a tenant's own cache
and never reach another's. Every input is preceded by its length: ("a", "bc") and ("ab", "c") are not the same.

The key is drawn at start, as the cache does not outlive the process. It keeps a client from knowing a namespace, and
with it from preparing one that another will have. Model, revision and precision are one per process.
"""

import hmac
import secrets

_HALF_BYTES = 16
_MAX_NAMES = 4096


class Namespaces:
    """Namespaces of this process. It remembers the names of the tenants it saw last, a few thousand of them."""

    def __init__(self, tenants: tuple[str, ...] = ()) -> None:
        """``tenants`` are those that are known from the beginning."""
        self._key = secrets.token_bytes(32)
        self._names = {self.prefix_of(tenant): tenant for tenant in tenants}

    def of(self, tenant: str, salt: str | None) -> bytes:
        """Where a request of ``tenant`` finds pages and leaves them."""
        prefix = self.prefix_of(tenant)
        if prefix not in self._names:
            if len(self._names) >= _MAX_NAMES:
                del self._names[next(iter(self._names))]
            self._names[prefix] = tenant
        return prefix + self._hash(tenant, salt or "")

    def prefix_of(self, tenant: str) -> bytes:
        """How all namespaces of ``tenant`` begin, and no others."""
        return self._hash(tenant)

    def tenant_of(self, namespace: bytes) -> str | None:
        """The tenant whose namespace it is, if it is remembered."""
        return self._names.get(namespace[:_HALF_BYTES])

    def _hash(self, *parts: str) -> bytes:
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return hmac.digest(self._key, message, "sha256")[:_HALF_BYTES]
