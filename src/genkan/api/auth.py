"""Who may call. Until API keys are configured: peers on this machine, unless the configuration opens up."""

import ipaddress

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

    Raises Unauthenticated for a peer on another machine.
    """
    if exchange.peer is not None and not _is_loopback(exchange.peer):
        raise Unauthenticated(
            f"{exchange.path} serves only clients on the server's own machine, whatever server.open_to says; "
            f"yours is {exchange.peer}."
        )


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
