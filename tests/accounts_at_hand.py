"""Admissions, and the ledger behind them, on accounts in memory: all that a pipeline needs besides its upstreams."""

import atexit
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from scripted_upstreams import ScriptedUpstream, ServedBy, Told, VirtualClock, router_to

from genkan.config import Config, DeploymentConfig
from genkan.gateway.admission import Admissions
from genkan.gateway.api_key import ApiKey
from genkan.gateway.fallback import Fallback
from genkan.gateway.journal import Journal
from genkan.gateway.ledger import Ledger
from genkan.gateway.ledger_row import Row, read_row
from genkan.gateway.meter import Meter
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.policies import Policies, lines
from genkan.gateway.reservations import Reservations
from genkan.store.accounts import Accounts
from genkan.store.memory_accounts import MemoryAccounts
from genkan.wire.usage import Usage

_journals = tempfile.TemporaryDirectory(prefix="genkan-journals-")
atexit.register(_journals.cleanup)


@dataclass
class AccountsTold:
    """An AdmissionObserver that remembers."""

    denials: list[tuple[str, str, str]] = field(default_factory=list)
    locally: int = 0
    low: list[str] = field(default_factory=list)
    bills: list[tuple[str, Usage, int | None, int]] = field(default_factory=list)
    spares: list[tuple[str, Usage, int]] = field(default_factory=list)

    def denied(self, kind: str, unit: str, scope: str) -> None:
        self.denials.append((kind, unit, scope))

    def admitted_locally(self) -> None:
        self.locally += 1

    def budget_is_low(self, scope: str) -> None:
        self.low.append(scope)

    def billed(self, deployment: str, usage: Usage, cost_nano_usd: int | None, saved_nano_usd: int) -> None:
        self.bills.append((deployment, usage, cost_nano_usd, saved_nano_usd))

    def spared(self, deployment: str, usage: Usage, saved_nano_usd: int) -> None:
        self.spares.append((deployment, usage, saved_nano_usd))


class AccountsAtHand:
    """All of it for ``config``. ``async with`` it, settlements get to ``accounts``; else they wait for ever."""

    def __init__(
        self,
        config: Config,
        clock: VirtualClock | None = None,
        *,
        keys: Sequence[ApiKey] = (),
        accounts: Accounts | None = None,
        local: Accounts | None = None,
    ) -> None:
        """``accounts`` are in memory if not given, and ``local`` what counts while they are lost."""
        self.config = config
        self.clock = clock or VirtualClock()
        self.told = AccountsTold()
        self.keys = {key.id: key for key in keys}
        in_memory = MemoryAccounts(self.clock, ledger=config.ledger)
        self.accounts: Accounts = in_memory if accounts is None else accounts
        journal = Journal(Path(tempfile.mkdtemp(dir=_journals.name)))
        self.ledger = Ledger(self.accounts, journal, clock=self.clock, lease_s=config.limits.lease_s)
        self.reservations = Reservations(
            self.accounts,
            MemoryAccounts(self.clock, ledger=config.ledger) if local is None else local,
            self.ledger,
            config.redis.when_lost,
            timeout_s=config.redis.timeout_s,
        )
        self.policies = Policies(config, self.keys.get)
        self.admissions = Admissions(
            self.policies,
            self.reservations,
            self.ledger,
            self.told,
            self.clock,
            request_s=config.redis.request_s,
            keeps_ledger=config.ledger.enabled,
        )

    def meter(self, name: str, place: DeploymentConfig) -> Meter | None:
        """What keeps the deployment ``name`` within the limits of ``place``; None if it has none."""
        plan = tuple(lines(place.limits, f"d:{name}", f"deployment '{name}'", is_own=False, lease_s=30.0))
        if not plan:
            return None
        wait_s = place.limit_wait_s
        return Meter(plan, self.reservations, wait_s=wait_s, clock=self.clock, sleep=self.clock.sleep)

    def pipeline(self, *upstreams: ServedBy | ScriptedUpstream) -> Pipeline:
        """One to ``upstreams``, which are found by their names."""
        fallback = Fallback(self.clock, Told(), self.clock.sleep)
        return Pipeline(router_to(self.config, upstreams, self.meter), fallback, self.admissions)

    async def __aenter__(self) -> Self:
        await self.ledger.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.ledger.aclose()

    async def settled(self) -> None:
        """Returns once ``accounts`` have all that was settled."""
        await self.ledger._outbox.drained()

    async def rows(self) -> list[Row]:
        """The ledger, once all is settled; each row can be read by those who read rows."""
        await self.settled()
        rows = [read_row(raw) for _, raw in await self.accounts.rows()]
        found = [row for row in rows if row is not None]
        assert len(found) == len(rows)
        return found
