"""Who may call. Until the first API key is created: peers on this machine, unless the configuration opens up."""

import ipaddress
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from genkan.api.exchange import Exchange
from genkan.api.failed_attempts import LONGEST_ADDRESS, FailedAttempts
from genkan.clock import Clock, SystemClock
from genkan.config import ServerConfig, TenantConfig
from genkan.errors import AccountsUnavailable, Forbidden, RateLimited, Unauthenticated
from genkan.gateway.api_key import ApiKey
from genkan.gateway.key_ring import KeyRing
from genkan.wire.caller import LOCAL_TENANT, Caller

#: Tell nothing of anyone, and probes have no key.
_OPEN = frozenset({"/", "/health", "/openapi.json"})
#: Pages without data: they ask for a key themselves, and their endpoints do where they answer with data.
_PAGES = frozenset({"/admin/prefix-cache"})
_MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
_WRONG = "Incorrect API key provided. You can get one from the operator of this server."


class Doorkeeper:
    """Admits or refuses a request before anything of its body is read, and notes who asks."""

    def __init__(
        self,
        server: ServerConfig,
        ring: KeyRing | None = None,
        *,
        required: Literal["auto", "always"] = "auto",
        tenants: Iterable[TenantConfig] = (),
        clock: Clock | None = None,
    ) -> None:
        """Without a ``ring`` there are no keys, and peers on this machine are all that is ever served."""
        self._open_to_any = server.open_to == "any"
        self._ring = ring
        self._always = required == "always"
        self._models = {tenant.name: frozenset(tenant.models) for tenant in tenants if tenant.models is not None}
        self._local_models = self._models.get(LOCAL_TENANT)
        self._failures = FailedAttempts(clock or SystemClock())

    def admit(self, exchange: Exchange) -> None:
        """Set ``exchange.caller``, or raise.

        Unauthenticated for a request without a key that can be used now, and, while there are no keys, for a peer on
        another machine and for a page of another site in a browser on this one. RateLimited instead after too many
        wrong keys from one address. AccountsUnavailable while it is not known which keys there are. 3 µs.
        """
        if self._ring is not None and (self._always or self._ring.any):
            self._admit_by_key(exchange, self._ring)
        else:
            self._admit_by_place(exchange)

    def _admit_by_place(self, exchange: Exchange) -> None:
        stranger, name = _foreign_peer(exchange), _foreign_name(exchange)
        if not self._open_to_any and stranger is not None:
            raise Unauthenticated(
                "No API keys are configured, so only clients on the server's own machine are served; "
                f"yours is {stranger}. Its operator can set server.open_to to 'any'."
            )
        if not self._open_to_any and name is not None and exchange.path not in _OPEN:
            raise Unauthenticated(
                "No API keys are configured, so the server must be asked for by the name localhost or a loopback "
                f"address; {name}. Its operator can create an API key, or set server.open_to to 'any'."
            )
        is_admin = stranger is None and name is None
        exchange.caller = Caller(exchange.request_id, is_admin=is_admin, models=self._local_models)

    def _admit_by_key(self, exchange: Exchange, ring: KeyRing) -> None:
        if exchange.path in _OPEN:
            return
        given = exchange.header_values(b"authorization")
        if not given and exchange.path in _PAGES and exchange.method in ("GET", "HEAD"):
            return
        if ring.is_stale:
            raise AccountsUnavailable("API keys cannot be checked at the moment.")
        if not given:
            raise Unauthenticated(_MISSING)
        presented = _bearer(given[0]) if len(given) == 1 else None
        key = None if presented is None else ring.find(presented)
        if key is None:
            raise self._wrong(exchange.peer)
        exchange.caller = Caller(exchange.request_id, key.tenant, key.id, key.role == "admin", self._models_of(key))

    def _wrong(self, peer: str | None) -> Unauthenticated | RateLimited:
        """The same for everything that is not a key in use: what exactly is wrong with it is the owner's to know."""
        wait_s = 0.0 if peer is None or _is_loopback(peer) else self._failures.add(peer)
        if wait_s == 0:
            return Unauthenticated(_WRONG)
        return RateLimited(
            f"Too many requests with a wrong API key came from your address. Try again in {math.ceil(wait_s)} s.",
            unit="requests",
            retry_after_s=wait_s,
        )

    def _models_of(self, key: ApiKey) -> frozenset[str] | None:
        """Those that both the key and its tenant may use."""
        of_tenant = self._models.get(key.tenant)
        if key.models is None:
            return of_tenant
        return frozenset(key.models) if of_tenant is None else of_tenant.intersection(key.models)


def require_admin(exchange: Exchange) -> None:
    """Admit only admins: an admin's key from anywhere, or, while there are no keys, this machine whatever is opened.

    Raises Forbidden for a key that is not an admin's; Unauthenticated where nobody is known: for a peer on another
    machine, and for a page of another site in a browser on this one.
    """
    caller = exchange.caller
    if caller.is_admin:
        return
    if caller.key_id is not None:
        raise Forbidden(f"{exchange.path[:200]} needs an API key with the role 'admin'.")
    raise Unauthenticated(_why_not_local(exchange) or _MISSING)


def _bearer(value: bytes) -> bytes | None:
    """What an Authorization header presents; None if it is of another scheme."""
    scheme, _, presented = value.partition(b" ")
    return presented.strip(b" \t") if scheme.lower() == b"bearer" else None


def _why_not_local(exchange: Exchange) -> str | None:
    """What shows that a request without a key is not from this machine's own user; None if nothing does."""
    if (name := _foreign_name(exchange)) is not None:
        return (
            f"{exchange.path[:200]} needs an admin's API key or, without keys, to be asked for by the name "
            f"localhost or a loopback address; {name}."
        )
    if (stranger := _foreign_peer(exchange)) is not None:
        return (
            f"{exchange.path[:200]} needs an admin's API key or, without keys, a client on the server's own machine, "
            f"whatever server.open_to says; yours is {stranger}."
        )
    return None


def _foreign_peer(exchange: Exchange) -> str | None:
    """The address of a peer that is not on this machine, to be shown. A Unix socket has none and is local."""
    peer = exchange.peer
    return None if peer is None or _is_loopback(peer) else peer[:100]


def _foreign_name(exchange: Exchange) -> str | None:
    """Which header shows a page of another site, in a browser on this machine; None if none does.

    It may get here by a name of its own that it lets mean 127.0.0.1, which is its ``Host`` and its ``Origin``.
    """
    host, origin = exchange.header(b"host"), exchange.header(b"origin")
    if host is not None and (len(host) > _LONGEST_NAME or not _is_local_name(host)):
        return f"the header host says {host[:100].decode('latin-1')!r}"
    if origin is not None and (len(origin) > _LONGEST_NAME or not _is_local_name(origin)):
        return f"the header origin says {origin[:100].decode('latin-1')!r}"
    return None


_LONGEST_NAME = 300  # a host name has at most 253 characters


@lru_cache(maxsize=1024)
def _is_local_name(value: bytes) -> bool:
    """Of ``Host`` or ``Origin``: a name and perhaps a port, with a scheme before it in ``Origin``."""
    host = value.decode("latin-1")
    try:
        name = urlsplit(host if "://" in host else f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(peer: str) -> bool:
    try:
        return len(peer) <= LONGEST_ADDRESS and _is_loopback_address(peer)
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def _is_loopback_address(peer: str) -> bool:
    """Raises ValueError for what is no address, which the cache does not keep: a proxy passes on any text as one."""
    address = ipaddress.ip_address(peer)
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
