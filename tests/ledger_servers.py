"""Ledgers in a real Redis, for commands that read them."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import yaml
from ledger_rows import append
from redis_servers import running_redis

from genkan.config import LedgerConfig
from genkan.store.accounts import Accounts
from genkan.store.address import parse_address
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient


class LedgerServer:
    """A Redis with a ledger, and the file of the configuration that names it."""

    def __init__(self, url: str, config: Path) -> None:
        self.url = url
        self.environ = {"GENKAN_CONFIG": str(config)}

    def append(self, *rows: bytes) -> None:
        """Settle requests that nothing was taken for, so that these are their rows."""
        self.use(lambda accounts: append(accounts, rows))

    def use(self, what: Callable[[Accounts], Awaitable[object]]) -> None:
        asyncio.run(_use(self.url, what))


@contextmanager
def running_ledger(folder: Path) -> Generator[LedgerServer, None, None]:
    """An empty one, of the embedded kind."""
    with running_redis("embedded", folder) as redis:
        config = folder / "genkan.yaml"
        config.write_text(configuration(url=redis.url), encoding="utf-8")
        yield LedgerServer(redis.url, config)


def configuration(**redis: object) -> str:
    """The least there is, with these settings of Redis."""
    settings = {
        "redis": redis,
        "upstreams": [{"name": "e", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "e"}],
    }
    return str(yaml.safe_dump(settings))


async def _use(url: str, what: Callable[[Accounts], Awaitable[object]]) -> None:
    client = RespClient(parse_address(url), connect_s=10, timeout_s=10)
    await client.start()
    try:
        await what(RedisAccounts(client, prefix="genkan", ledger=LedgerConfig()))
    finally:
        await client.aclose()
