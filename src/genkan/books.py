"""What the gateway keeps between requests, constructed: accounts, keys, the ledger, circuits, on Redis or in memory."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path

from genkan.clock import Clock
from genkan.config import Config
from genkan.config.store import RedisConfig
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
from genkan.gateway.seen_keys import SEEN_KEYS_FILE, SeenKeys
from genkan.gateway.shared_circuits import SharedCircuits
from genkan.store.accounts import Accounts, Plan
from genkan.store.address import Address, parse_address
from genkan.store.eviction import EvictionCheck
from genkan.store.keys import KeyStore, MemoryKeyStore, RedisKeyStore
from genkan.store.memory_accounts import MemoryAccounts
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient
from genkan.telemetry.account_metrics import AccountMetrics

#: How workers learn where the embedded Redis is.
URL_VARIABLE = "GENKAN_REDIS_URL"
_TIDY_EVERY_S = 5.0


class Books:
    """All of it, for one worker. ``start`` in the event loop that will use it, ``aclose`` at the end."""

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock, metrics: AccountMetrics) -> None:
        """Raises ConfigError."""
        self._config = config
        self._clock = clock
        self._clients: list[RespClient] = []
        self._shared_circuits: SharedCircuits | None = None
        self._temporary: Path | None = None
        self._eviction: EvictionCheck | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        lease_s = config.limits.lease_s
        self.prices = PriceBook(config.prices)
        url = redis_url(config, environ)
        address = None if url is None else parse_address(url, config.redis.sentinels)
        if address is None:
            self.accounts: Accounts = MemoryAccounts(clock, ledger=config.ledger, hold_s=lease_s)
            self.reading: Accounts = self.accounts
            self.circuits: CircuitStore = MemoryCircuits()
            keys: KeyStore = MemoryKeyStore()
        else:
            keys = self._on_redis(address, clock)
        self.secret = secret = load_secret(environ, config)
        seen = None if url is None else SeenKeys(Path(config.redis.data_dir) / SEEN_KEYS_FILE)
        self.ring = KeyRing(keys, secret, clock, trust_s=config.redis.when_lost.keys_s, seen=seen)
        self.issuer = KeyIssuer(keys, secret, clock)
        journal = Journal(self._journal_folder(address), fsync_s=config.ledger.fsync_s)
        self.ledger = Ledger(self.accounts, journal, clock=clock, lease_s=lease_s, observer=metrics)
        # Nobody renews its leases, and they die with this process, so they need not run out.
        self.local = MemoryAccounts(
            clock, ledger=config.ledger, share=1.0 / config.server.workers, leases_run_out=False
        )
        self.reservations = Reservations(
            self.accounts, self.local, self.ledger, config.redis.when_lost, timeout_s=config.redis.timeout_s
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
        self._begin(self._tidy())

    async def aclose(self) -> None:
        """Settle what is left to settle, and disconnect."""
        await self.ledger.aclose()
        if self._shared_circuits is not None:
            await self._shared_circuits.aclose()
        await self.ring.aclose()
        for client in self._clients:
            await client.aclose()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def groups(self) -> Iterator[tuple[str, Plan]]:
        """Everything that has limits of its own, by name, as it is configured now."""
        return self._policies.groups(self.ring.keys(), self._clock.unix())

    def _on_redis(self, address: Address, clock: Clock) -> KeyStore:
        redis, ledger, lease_s = self._config.redis, self._config.ledger, self._config.limits.lease_s
        # What requests wait for has a connection of its own: a long reply to an administrator must not hold it up.
        hot = RespClient(address, connect_s=redis.connect_s, timeout_s=redis.timeout_s, on_connected=self._connected)
        calm = RespClient(
            address,
            connect_s=redis.connect_s,
            timeout_s=max(redis.timeout_s, 2.0),
            on_connected=self._calmly_connected,
        )
        self._eviction = EvictionCheck(calm, address)
        self._clients = [hot, calm]
        self.accounts = RedisAccounts(hot, prefix=redis.prefix, ledger=ledger, hold_s=lease_s)
        self._shared_circuits = SharedCircuits(
            calm,
            address,
            prefix=redis.prefix,
            connect_s=redis.connect_s,
            timeout_s=redis.timeout_s,
            clock=clock,
        )
        self.circuits = self._shared_circuits
        self.reading = RedisAccounts(calm, prefix=redis.prefix, ledger=ledger, hold_s=lease_s)
        return RedisKeyStore(calm, redis.prefix)

    def _connected(self, is_another: bool) -> None:
        if is_another:
            self.ledger.lost_ground()

    def _journal_folder(self, address: Address | None) -> Path:
        if address is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="genkan-journal-"))
            return self._temporary
        return Path(self._config.redis.data_dir) / journal_name(self._config.redis, address)

    def _calmly_connected(self, is_another: bool) -> None:
        if self._eviction is not None:
            self._begin(self._eviction.run())

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Do it in the background, until it ends or we do."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tidy(self) -> None:
        """Drop what local accounts no longer need, as nobody may ask them anything for days."""
        while True:
            await asyncio.sleep(_TIDY_EVERY_S)
            await self.local.close_lost()


def journal_name(redis: RedisConfig, address: Address) -> str:
    """The journal's folder: another for each Redis and prefix, as servers replay all journals that they find in it.

    That of the embedded Redis is one, wherever its socket is.
    """
    if redis.url_env is None and redis.url == "embedded":
        return "journal-embedded"
    place = f"{address.place} {redis.prefix}"
    return f"journal-{hashlib.blake2b(place.encode('utf-8', 'surrogateescape'), digest_size=4).hexdigest()}"


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
