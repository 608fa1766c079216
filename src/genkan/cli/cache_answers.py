"""``genkan cache stats`` and ``genkan cache purge``: stored answers in Redis itself, whether or not a server runs."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import click

from genkan.config import Config, config_path, load
from genkan.errors import ConfigError, StoreError, StoreTimeout
from genkan.store.address import parse_address
from genkan.store.answers import AnswerStatistics
from genkan.store.embedded import redis_for_cli
from genkan.store.redis_answers import RedisAnswers
from genkan.store.resp import RespClient

Result = TypeVar("Result")
_PATIENCE_S = 10.0  # nobody waits behind a command
_SCANNED = 1000


class _Stored(NamedTuple):
    """What a command works on."""

    answers: RedisAnswers
    client: RespClient
    prefix: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(as_json: bool) -> None:
    """Count what is stored: answers, their bytes as they are kept, and records of questions.

    Workers tell each other by such records which questions they may find like ones among: which were added or removed,
    and what was seen of them. There are none where the index itself is in Redis. Purged answers count until their time
    is over: nobody can read them any more, and Redis still holds them. What was served, route by route, is in the
    server's metrics: genkan_cache_lookups.
    """
    found, records = _with_stored(_counted)
    if as_json:
        content = {"answers": found.entries, "bytes": found.n_bytes, "complete": found.is_complete}
        click.echo(json.dumps({**content, "question_records": records}))
        return
    more = "" if found.is_complete else " or more"
    click.echo(f"answers    {found.entries:,}{more}")
    click.echo(f"bytes      {found.n_bytes:,}{more}")
    click.echo(f"questions  {records:,} records")


@click.command()
@click.option("--tenant", help="All answers to its requests.")
@click.option("--route", help="All answers of a route, or of a model that was asked for by its own name.")
@click.option("--all", "everything", is_flag=True, help="All answers.")
def purge(tenant: str | None, route: str | None, everything: bool) -> None:
    """Never answer again from what is stored now. It takes effect at once, in every running server.

    The answers themselves stay in Redis, unreadable, until their time is over.
    """
    chosen = [f"{kind}:{name}" for kind, name in (("t", tenant), ("r", route)) if name] + ["all"] * everything
    if len(chosen) != 1:
        raise click.UsageError("one of --tenant, --route and --all")

    async def begin(stored: _Stored) -> None:
        await stored.answers.purge(chosen[0])

    _with_stored(begin)
    click.echo(f"purged: {'all' if everything else tenant or route}", err=True)


async def _counted(stored: _Stored) -> tuple[AnswerStatistics, int]:
    return await stored.answers.statistics(), await _records(stored)


async def _records(stored: _Stored) -> int:
    """Over all embedders, each of which has a stream of its own."""
    cursor, records = b"0", 0
    while True:
        cursor, streams = await stored.client.call(
            "SCAN", cursor, "MATCH", f"{stored.prefix}:questions:*", "COUNT", _SCANNED, "TYPE", "stream"
        )
        records += sum([int(await stored.client.call("XLEN", stream)) for stream in streams])
        if cursor == b"0":
            return records


def _with_stored(use: Callable[[_Stored], Awaitable[Result]]) -> Result:
    """What ``use`` makes of the configured answers. Ends the command with what is wrong."""
    try:
        config = load(config_path())
        with _url(config) as url:
            return asyncio.run(_used(config, url, use))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except StoreTimeout:
        raise click.ClickException("Redis did not answer in time; whether a purge took effect is not known") from None
    except StoreError as error:
        raise click.ClickException(f"the stored answers cannot be reached: {error}") from None


@contextmanager
def _url(config: Config) -> Generator[str, None, None]:
    """Of the Redis that holds answers, which need not be the one of accounts."""
    variable = config.cache.url_env
    if variable is None:
        with redis_for_cli(config) as url:
            yield url
    elif os.environ.get(variable):
        yield os.environ[variable]
    else:
        raise ConfigError("cache.url_env", f"the environment variable {variable} is not set")


async def _used(config: Config, url: str, use: Callable[[_Stored], Awaitable[Result]]) -> Result:
    sentinels = config.redis.sentinels if config.cache.url_env is None else ()
    client = RespClient(parse_address(url, sentinels), connect_s=_PATIENCE_S, timeout_s=_PATIENCE_S)
    await client.start()
    try:
        prefix = config.redis.prefix
        return await use(_Stored(RedisAnswers(client, prefix=prefix), client, prefix))
    finally:
        await client.aclose()
