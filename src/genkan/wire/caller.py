"""Who asks."""

from dataclasses import dataclass, field

from genkan.wire.trace import RequestTrace

LOCAL_TENANT = "local"  # of those who need no key


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under what name the request goes in headers, logs and the ledger."""

    request_id: str
    tenant: str = LOCAL_TENANT
    key_id: str | None = None  # never the key itself
    is_admin: bool = False
    models: frozenset[str] | None = None  # names it may use; None: all
    trace: RequestTrace | None = field(default=None, compare=False)  # of the request

    def may_use(self, name: str) -> bool:
        """Whether ``name``, of a model or a route, is one of those it may use."""
        return self.models is None or name in self.models


#: Where nobody asks, as in tests and in programs of one's own.
NOBODY = Caller(request_id="")
