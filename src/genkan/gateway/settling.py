"""How a batch is settled when it may have been settled before, or when one of it cannot be settled at all."""

import logging
from collections.abc import Mapping, Sequence

from genkan.errors import StoreError, StoreRefused
from genkan.store.accounts import Accounts, Outcome, Settlement

#: The store knows by itself for 120 s what it settled; what may be older is looked up among the ledger's rows.
KNOWN_S = 100.0
_CLOCKS_DIFFER_S = 60.0  # at most, between this machine and Redis'

# What Redis says of itself, whatever it is asked. Anything else is said of the settlement.
# fmt: off
_CONDITIONS = frozenset({
    "BUSY", "CLUSTERDOWN", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS",
    "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE", "WRONGPASS",
})
# fmt: on

_log = logging.getLogger("genkan.gateway")


async def settled_or_refused(accounts: Accounts, batch: Sequence[Settlement]) -> list[Outcome | Exception]:
    """How each was settled, or why it alone cannot be. One round trip, unless one of them is refused.

    Raises StoreError if it is Redis that is not well; then any number of them may have been settled.
    """
    try:
        return [*await accounts.settle(batch)]
    except StoreRefused as error:
        if error.code in _CONDITIONS:
            raise
        refusal: Exception = error
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug that one settlement meets must not stop the others
        _log.exception("settlements could not be sent")
        refusal = error
    if len(batch) == 1:
        return [refusal]
    return [answer for each in batch for answer in await settled_or_refused(accounts, [each])]


def too_old_to_ask(asked: Mapping[str, float], now_s: float) -> dict[str, float]:
    """Of ids and the Unix times at which they were, or may have been, settled, those the store may have forgotten."""
    return {request_id: at_s for request_id, at_s in asked.items() if at_s < now_s - KNOWN_S}


async def settled_long_ago(accounts: Accounts, old: Mapping[str, float]) -> set[str]:
    """Which of ``old``, as by `too_old_to_ask`, have been settled. Reads all rows since. Raises StoreError."""
    if not old:
        return set()
    return await accounts.already_settled([*old], since_s=min(old.values()) - _CLOCKS_DIFFER_S)


def reason(refusal: Exception) -> str:
    """In words, whatever it is."""
    return str(refusal) or type(refusal).__name__
