"""Accounts: limits and budgets that requests draw on, and the ledger's rows. The protocol and its values; no I/O.

Theory. Before a request is worked on, ``admit`` takes what it may need from every limit that applies, or from none.
When it has ended, ``settle`` puts each right by what it really needed, gives back what it held, and writes its row of
the ledger: all of that once, however often it is asked. What settles a request that was never settled, because its
worker died, is ``close_lost``.

A limit is a `Line`. Which lines apply is a matter of who asks for what, so they are made once and reused, as a `Plan`;
what differs from request to request are four `Amounts`.

What is made for every request is not frozen, as that costs 0.1 µs for each field; nobody changes it all the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

Kind = Literal["bucket", "window", "lease", "budget"]
Outcome = Literal["settled", "duplicate", "late"]


class Unit(IntEnum):
    """What a line counts: a place in `Amounts`."""

    REQUESTS = 0
    TOKENS = 1
    BUDGET_TOKENS = 2
    BUDGET_NANO_USD = 3


class Amounts(NamedTuple):
    """What one request takes from lines of each unit. All are whole and at least 0."""

    requests: int = 1
    tokens: int = 0  # a fair estimate, for rates
    budget_tokens: int = 0  # the most it can be, for budgets; when settling the same as ``tokens``
    budget_nano_usd: int = 0  # billionths of a dollar; the most it can be, then what it was


@dataclass(frozen=True, slots=True)
class Line:
    """One limit.

    bucket: a token bucket by GCRA: ``burst`` at once, refilled by ``limit`` in ``window_s``.
    window: at most ``limit`` in any stretch of ``window_s``; exact, so it remembers every request in the window.
    lease:  at most ``limit`` requests at the same time, each held until it is settled or ``window_s`` went by
            without `Accounts.renew`.
    budget: at most ``limit`` under this key, ever; ``window_s`` is how long the key is kept.
    """

    key: str  # unique, of letters, digits and ``._:@/-``; for a budget it names the period too
    kind: Kind
    unit: Unit
    limit: int
    window_s: float
    burst: int = 0  # of a bucket
    scope: str = ""  # for people: "tenant 'acme'"
    is_own: bool = True  # the client's own, shown in headers; not a limit that others share


Plan = tuple[Line, ...]


@dataclass(slots=True)
class LineState:
    """A line after ``admit`` or in ``read``; times are whole microseconds, as Redis tells them."""

    remaining: int  # what could be taken now; in `read` less than 0 of a budget that is overspent
    retry_us: int  # until what was asked fits; 0 when it does, less than 0 when it never will
    reset_us: int  # until it is as if never used; of a budget 0

    @property
    def retry_s(self) -> float:
        """Seconds until what was asked fits; 0 when it does, inf when it never will."""
        return self.retry_us / 1e6 if self.retry_us >= 0 else math.inf

    @property
    def reset_s(self) -> float:
        """Seconds until it is as if never used; of a budget 0."""
        return self.reset_us / 1e6


@dataclass(slots=True)
class Decision:
    """Whether a request is admitted. ``states`` are those of the plan's lines, in order, with what it took taken."""

    denied: Line | None  # the first that does not have enough; None if admitted
    states: tuple[LineState, ...]
    is_local: bool = False  # decided without Redis


@dataclass(slots=True)
class Settlement:
    """The end of one request. Written to the journal as JSON, so it holds all that is needed to settle."""

    request_id: str
    plan: Plan
    reserved: Amounts
    actual: Amounts
    row: bytes  # the ledger's row, a JSON object; empty for none
    #: Whether ``admit`` was sent to this store. If not, buckets have nothing to be put right, and budgets are charged
    #: all of ``actual``. Windows and leases know by themselves whether they have the request.
    was_admitted: bool = True


@dataclass(slots=True)
class Admission:
    """What ``admit`` is asked."""

    request_id: str
    plan: Plan
    amounts: Amounts
    draft: bytes = b""  # the row if it is never settled, a JSON object; empty: none, nothing is kept


class Accounts(Protocol):
    """Where lines and rows are kept. All raise StoreError; nothing is tried twice."""

    async def admit(self, admission: Admission, *, timeout_s: float) -> Decision:
        """Take ``amounts`` from every line of the plan, or nothing from any. One round trip."""

    async def settle(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        """Settle each once: ``duplicate`` if it was before, ``late`` if it had been closed as lost.

        Rates and budgets get ``actual - reserved`` (a rate may so come into debt; a refund never fills it beyond its
        burst), leases are given back, the row is appended to the ledger. One round trip for all. What is refused is
        not done in part, and may be asked again.
        """

    async def renew(self, admissions: Sequence[Admission]) -> None:
        """Hold their leases and reservations for another ``window_s``."""

    async def close_lost(self, *, at_most: int = 100) -> int:
        """Append the drafts of reservations that ran out, with ``"state": "lost"``; how many.

        Their rates stay as they are, their leases have ended, their budgets stay charged with what was reserved.
        """

    async def read(self, plan: Plan) -> list[LineState]:
        """The lines as they stand, for one request of nothing. Changes nothing."""

    async def rows(self, after: str = "", *, at_most: int = 1000) -> list[tuple[str, bytes]]:
        """The ledger's rows after a cursor, oldest first, each with its own cursor; "" is the beginning."""

    async def already_settled(self, request_ids: Sequence[str], since_s: float) -> set[str]:
        """Which of these the ledger has a row of, written since then (Unix time) by ``settle``.

        For settlements that may be asked again when ``settle`` no longer knows them, minutes later. One that was closed
        as lost, and not settled since, is not among them. Cost: reads all rows since then.
        """
