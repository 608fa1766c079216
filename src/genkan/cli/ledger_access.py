"""The configured ledger, for a command: it is read from Redis, whether or not a server runs."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import click

from genkan.config import Config, config_path, load
from genkan.errors import ConfigError, StoreError
from genkan.gateway.ledger_row import Row
from genkan.store.accounts import Accounts
from genkan.store.address import parse_address
from genkan.store.embedded import redis_for_cli
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient

Result = TypeVar("Result")
DAY = click.DateTime(["%Y-%m-%d"])  # gives a datetime
_CURSOR = re.compile(r"(?:[0-9]{1,19}-[0-9]{1,19})?")
_PATIENCE_S = 10.0  # nobody waits behind a command


class Cursor(click.ParamType[str]):
    """A place in the ledger, as an export tells it; empty: before its first row."""

    name = "cursor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if _CURSOR.fullmatch(str(value)) is None:
            self.fail("must be a cursor, as an export before wrote to stderr", param, ctx)
        return str(value)


class Unreadable(click.ClickException):
    """The ledger cannot be read. Not 1, which is what a report that found something ends with."""

    exit_code = 2


def with_ledger(use: Callable[[Accounts], Awaitable[Result]]) -> Result:
    """What ``use`` makes of the configured accounts. Ends the command if they cannot be reached."""
    try:
        config = load(config_path())
        with redis_for_cli(config) as url:
            return asyncio.run(_used(config, url, use))
    except ConfigError as error:
        raise Unreadable(str(error)) from None
    except StoreError as error:
        raise Unreadable(f"the ledger cannot be read: {error}") from None


def is_between(row: Row, since: datetime | None, until: datetime | None) -> bool:
    """Whether the request ended on one of these days of UTC, both included."""
    day = datetime.fromtimestamp(row.t_s, UTC).date()
    return (since is None or since.date() <= day) and (until is None or day <= until.date())


def day_of(moment: datetime | None) -> date | None:
    """The day of what `DAY` gave."""
    return None if moment is None else moment.date()


async def _used(config: Config, url: str, use: Callable[[Accounts], Awaitable[Result]]) -> Result:
    address = parse_address(url, config.redis.sentinels)
    client = RespClient(address, connect_s=_PATIENCE_S, timeout_s=_PATIENCE_S)
    await client.start()
    try:
        return await use(RedisAccounts(client, prefix=config.redis.prefix, ledger=config.ledger))
    finally:
        await client.aclose()
