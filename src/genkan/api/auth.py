"""Who may call. Until API keys are configured: peers on this machine, unless the configuration opens up."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from genkan.api.exchange import Exchange
from genkan.config import ServerConfig
from genkan.errors import Unauthenticated


class Doorkeeper:
    """Admits or refuses a request before anything of its body is read."""

    def __init__(self, server: ServerConfig) -> None:
        self._open_to_any = server.open_to == "any"

    def admit(self, exchange: Exchange) -> None:
        """Raises Unauthenticated for a peer on another machine; a Unix socket has no peer address and is local."""
        if self._open_to_any or exchange.peer is None or _is_loopback(exchange.peer):
            return
        raise Unauthenticated(
            "No API keys are configured, so only clients on the server's own machine are served; "
            f"yours is {exchange.peer}. Its operator can set server.open_to to 'any'."
        )


def require_local(exchange: Exchange) -> None:
    """Admit only this machine, whatever the configuration opens: for what shows or drops other people's prompts.

    Raises Unauthenticated for a peer on another machine; and for a page of another site in a browser on this one, which
    could get here by a name of its own that it lets mean 127.0.0.1: it shows in ``Host`` and ``Origin``.
    """
    for header in (b"host", b"origin"):
        value = exchange.header(header)
        if value is not None and not _is_local_name(value.decode("latin-1")):
            raise Unauthenticated(
                f"{exchange.path} is to be asked for by the name localhost or a loopback address; the header "
                f"{header.decode()} says {value.decode('latin-1')[:100]!r}."
            )
    if exchange.peer is not None and not _is_loopback(exchange.peer):
        raise Unauthenticated(
            f"{exchange.path} serves only clients on the server's own machine, whatever server.open_to says; "
            f"yours is {exchange.peer}."
        )


def _is_local_name(host: str) -> bool:
    """Of ``Host`` or ``Origin``: a name and perhaps a port, with a scheme before it in ``Origin``."""
    try:
        name = urlsplit(host if "://" in host else f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


@lru_cache(maxsize=4096)
def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
