"""What the gateway keeps between requests, constructed: accounts, keys, the ledger, circuits, on Redis or in memory."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from genkan.clock import Clock
from genkan.config import Config
from genkan.errors import ConfigError
from genkan.gateway.admission import Admissions
from genkan.gateway.breaker import CircuitStore, MemoryCircuits
from genkan.gateway.journal import Journal
from genkan.gateway.key_issuer import KeyIssuer
from genkan.gateway.key_ring import KeyRing
from genkan.gateway.key_secret import load_secret
from genkan.gateway.ledger import Ledger
from genkan.gateway.policies import Policies
from genkan.gateway.prices import PriceBook
from genkan.gateway.reservations import Reservations
from genkan.gateway.shared_circuits import SharedCircuits
from genkan.store.accounts import Accounts, Plan
from genkan.store.address import parse_address
from genkan.store.keys import KeyStore, MemoryKeyStore, RedisKeyStore
from genkan.store.memory_accounts import MemoryAccounts
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient
from genkan.telemetry.gateway_metrics import GatewayMetrics

#: How workers learn where the embedded Redis is.
URL_VARIABLE = "GENKAN_REDIS_URL"
_log = logging.getLogger("genkan.app")


class Books:
    """All of it, for one worker. ``start`` in the event loop that will use it, ``aclose`` at the end."""

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock, metrics: GatewayMetrics) -> None:
        """Raises ConfigError."""
        self._config = config
        self._clock = clock
        self._clients: list[RespClient] = []
        self._shared_circuits: SharedCircuits | None = None
        self._temporary: Path | None = None
        self.prices = PriceBook(config.prices)
        url = redis_url(config, environ)
        if url is None:
            self.accounts: Accounts = MemoryAccounts(clock, ledger=config.ledger)
            self.circuits: CircuitStore = MemoryCircuits()
            keys: KeyStore = MemoryKeyStore()
        else:
            keys = self._on_redis(url, clock)
        secret = load_secret(environ, config)
        self.ring = KeyRing(keys, secret, clock, trust_s=config.redis.when_lost.keys_s)
        self.issuer = KeyIssuer(keys, secret, clock)
        journal = Journal(self._journal_folder(in_memory=url is None), fsync_s=config.ledger.fsync_s)
        self.ledger = Ledger(self.accounts, journal, clock=clock, lease_s=config.limits.lease_s, observer=metrics)
        local = MemoryAccounts(clock, ledger=config.ledger, share=1.0 / config.server.workers)
        self.reservations = Reservations(
            self.accounts, local, self.ledger, config.redis.when_lost, timeout_s=config.redis.timeout_s
        )
        self._policies = Policies(config, self.ring.by_id)
        self.admissions = Admissions(
            self._policies,
            self.reservations,
            self.ledger,
            metrics,
            clock,
            request_s=config.redis.request_s,
            keeps_ledger=config.ledger.enabled,
        )

    async def start(self) -> None:
        """Connect, read the keys, replay what dead workers left."""
        for client in self._clients:
            await client.start()
        await self.ring.start()
        if self._shared_circuits is not None:
            await self._shared_circuits.start()
        await self.ledger.start()

    async def aclose(self) -> None:
        """Settle what is left to settle, and disconnect."""
        await self.ledger.aclose()
        if self._shared_circuits is not None:
            await self._shared_circuits.aclose()
        await self.ring.aclose()
        for client in self._clients:
            await client.aclose()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def groups(self) -> Iterator[tuple[str, Plan]]:
        """Everything that has limits of its own, by name, as it is configured now."""
        return self._policies.groups(self.ring.keys(), self._clock.unix())

    def _on_redis(self, url: str, clock: Clock) -> KeyStore:
        redis = self._config.redis
        address = parse_address(url, redis.sentinels)
        # What requests wait for has a connection of its own: a long reply to an administrator must not hold it up.
        hot = RespClient(address, connect_s=redis.connect_s, timeout_s=redis.timeout_s, on_connected=self._connected)
        calm = RespClient(address, connect_s=redis.connect_s, timeout_s=max(redis.timeout_s, 2.0))
        self._clients = [hot, calm]
        self.accounts = RedisAccounts(hot, prefix=redis.prefix, ledger=self._config.ledger)
        self._shared_circuits = SharedCircuits(
            calm,
            address,
            prefix=redis.prefix,
            connect_s=redis.connect_s,
            timeout_s=redis.timeout_s,
            clock=clock,
        )
        self.circuits = self._shared_circuits
        self.reading: Accounts = RedisAccounts(calm, prefix=redis.prefix, ledger=self._config.ledger)
        return RedisKeyStore(calm, redis.prefix)

    def _connected(self, is_another: bool) -> None:
        if is_another:
            self.ledger.lost_ground()

    def _journal_folder(self, *, in_memory: bool) -> Path:
        if not in_memory:
            return Path(self._config.redis.data_dir) / "journal"
        self._temporary = Path(tempfile.mkdtemp(prefix="genkan-journal-"))
        self.reading = self.accounts
        return self._temporary


def redis_url(config: Config, environ: Mapping[str, str]) -> str | None:
    """Where Redis is; None for ``memory``. Raises ConfigError where that cannot be told."""
    variable = config.redis.url_env
    if variable is not None:
        if not environ.get(variable):
            raise ConfigError("redis.url_env", f"the environment variable {variable} is not set")
        return environ[variable]
    if config.redis.url == "memory":
        return None
    if config.redis.url != "embedded":
        return config.redis.url
    if not environ.get(URL_VARIABLE):
        raise ConfigError("redis.url", "the embedded Redis is started by `bentoml serve`; here is none")
    return environ[URL_VARIABLE]
