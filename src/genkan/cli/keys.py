"""``genkan keys``: API keys, made, listed, revoked and rotated in Redis itself, with or without a running server."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from genkan.clock import SystemClock
from genkan.config import Config, config_path, load
from genkan.errors import ConfigError, RequestError, StoreError, StoreLost, StoreTimeout
from genkan.gateway.api_key import ApiKey
from genkan.gateway.key_issuer import Issued, KeyIssuer
from genkan.gateway.key_records import NewKey, shown, state
from genkan.gateway.key_secret import load_secret
from genkan.store.address import parse_address
from genkan.store.embedded import redis_for_cli
from genkan.store.keys import RedisKeyStore
from genkan.store.resp import RespClient

T = TypeVar("T")
_TIMEOUT_S = 5.0
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

_config = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="The configuration, if not the one that is served."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Duration(click.ParamType[float]):
    """Seconds, written as 90, 90s, 15m, 12h or 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration such as 90s, 15m, 12h or 30d", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


class _Object(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            read = json.loads(value, parse_float=Decimal)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(read, dict):
            self.fail("must be a JSON object", param, ctx)
        return read


@click.group()
def keys() -> None:
    """API keys. Changes reach a running server within a second.

    The key alone goes to standard output, so that KEY=$(genkan keys create --tenant acme) holds it; it is kept nowhere.
    """


@keys.command()
@click.option("--tenant", required=True, help="Whose limits and budgets it shares.")
@click.option("--name", default="", help="For people.")
@click.option("--role", type=click.Choice(["user", "admin"]), default="user", show_default=True)
@click.option("--expires-in", type=_Duration(), help="Such as 90s, 15m, 12h or 30d; never, if not given.")
@click.option(
    "--model", "models", multiple=True, help="A model or route it may name; all of its tenant's if not given."
)
@click.option("--limits", type=_Object(), help='In place of limits.key, such as \'{"requests": {"limit": 60}}\'.')
@click.option("--budget", "budgets", type=_Object(), multiple=True, help='Such as \'{"per": "month", "usd": 20}\'.')
@_as_json
@_config
def create(
    tenant: str,
    name: str,
    role: str,
    expires_in: float | None,
    models: tuple[str, ...],
    limits: dict[str, Any] | None,
    budgets: tuple[dict[str, Any], ...],
    as_json: bool,
    path: Path | None,
) -> None:
    """Make a key, and print it this once."""
    given = {
        "tenant": tenant,
        "name": name,
        "role": role,
        "expires_in_s": expires_in,
        "models": list(models) or None,
        "limits": limits,
        "budgets": list(budgets),
    }
    try:
        wanted = NewKey.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise click.UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    _tell(_run(path, lambda issuer: issuer.create(wanted)), as_json)


@keys.command("list")
@click.option("--tenant", help="Only its keys.")
@_as_json
@_config
def list_all(tenant: str | None, as_json: bool, path: Path | None) -> None:
    """Show the records of keys, also of those that have ended."""
    found = _run(path, lambda issuer: issuer.listed(tenant))
    now_s = SystemClock().unix()
    if as_json:
        click.echo(_json([shown(key, now_s) for key in found]))
        return
    rows: list[tuple[str, ...]] = [("ID", "HINT", "TENANT", "ROLE", "STATE", "EXPIRES", "NAME")]
    rows += [_row(key, now_s) for key in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
@click.argument("key_id", metavar="ID")
@_as_json
@_config
def revoke(key_id: str, as_json: bool, path: Path | None) -> None:
    """End a key now."""
    key = _run(path, lambda issuer: issuer.revoke(key_id))
    if as_json:
        click.echo(_json(shown(key, SystemClock().unix())))
    else:
        click.echo(f"{key.id} of {key.tenant} is revoked", err=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--grace", "grace_s", type=_Duration(), default=0.0, help="How long the old key still works: 15m, 1d.")
@_as_json
@_config
def rotate(key_id: str, grace_s: float, as_json: bool, path: Path | None) -> None:
    """Make a key that takes the place of another, and print it this once."""
    _tell(_run(path, lambda issuer: issuer.rotate(key_id, grace_s=grace_s)), as_json)


def _run(path: Path | None, work: Callable[[KeyIssuer], Awaitable[T]]) -> T:
    """What ``work`` gives, on the configured Redis; ends the command with what is wrong."""
    try:
        config = load(path or config_path())
        with redis_for_cli(config) as url:
            return asyncio.run(_on(url, config, work))
    except (ConfigError, RequestError) as error:
        problem = str(error)
    except StoreTimeout:
        problem = "Redis did not answer in time; `genkan keys list` shows whether the change was made"
    except StoreLost:
        problem = "Redis cannot be reached"
    except StoreError as error:
        problem = f"Redis refused: {error}"
    click.echo(f"error: {problem}", err=True)
    sys.exit(1)


async def _on(url: str, config: Config, work: Callable[[KeyIssuer], Awaitable[T]]) -> T:
    redis = config.redis
    client = RespClient(parse_address(url, redis.sentinels), connect_s=_TIMEOUT_S, timeout_s=_TIMEOUT_S)
    await client.start()
    try:
        clock = SystemClock()
        issuer = KeyIssuer(RedisKeyStore(client, redis.prefix), load_secret(os.environ, config), clock)
        return await work(issuer)
    finally:
        await client.aclose()


def _tell(issued: Issued, as_json: bool) -> None:
    if as_json:
        click.echo(_json({"key": issued.text, **shown(issued.key, SystemClock().unix())}))
        return
    key = issued.key
    click.echo(
        f"{key.id} for {key.tenant}, {key.role}; expires: {_date(key.expires_s)}. The key, shown once:", err=True
    )
    click.echo(issued.text)


def _row(key: ApiKey, now_s: float) -> tuple[str, ...]:
    return key.id, f"…{key.hint}", key.tenant, key.role, state(key, now_s), _date(key.expires_s), key.name


def _date(unix_s: float | None) -> str:
    if unix_s is None:
        return "never"
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # of a record from elsewhere; one must not hide all the others
        return "after 9999"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=float)
