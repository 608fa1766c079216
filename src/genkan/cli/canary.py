"""``genkan canary``: what is known of canaries, and what was decided."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from genkan.cli.ledger_access import Unreadable
from genkan.clock import SystemClock
from genkan.config import Config, RouteConfig, config_path, load
from genkan.errors import ConfigError
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.canary.configured import experiment_of
from genkan.preflight import check_settings
from genkan.store.address import parse_address
from genkan.store.canaries import Batch, CanaryStore, ExperimentKey, Kept
from genkan.store.embedded import redis_for_cli
from genkan.store.redis_canaries import RedisCanaries
from genkan.store.resp import RespClient

Report = Mapping[str, Any]
_PATIENCE_S = 10.0  # nobody waits behind a command
_FIGURES = (
    ("model", "{arm}_model", "{}"),
    ("samples", "{arm}_samples", "{:,}"),
    ("errors", "{arm}_error_rate", "{:.2%}"),
    ("avg ms", "{arm}_avg_ms", "{:,.1f}"),
    ("ttft ms", "{arm}_ttft_ms", "{:,.1f}"),
    ("cost $", "{arm}_cost_usd", "{:.9f}"),
    ("tokens", "{arm}_tokens", "{:,.1f}"),
)
_GUARDS = (("guard", "guard"), ("limit", "limit"), ("seen", "value"), ("at least", "lower"), ("at most", "upper"))


@click.group()
def canary() -> None:
    """What is known of canaries."""


@canary.command()
@click.argument("route", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, as `GET /admin/canary` gives.")
def report(route: str | None, as_json: bool) -> None:
    """Compare each ROUTE's canary, or one's, with its control, and say what was decided, when and by whom.

    It is read from Redis, whether or not a server runs, and decides nothing. What a server has measured is there about
    a second later.
    """
    reports = _read(route)
    if as_json:
        click.echo(json.dumps({"object": "list", "data": reports} if route is None else reports[0]))
    else:
        click.echo("\n\n".join(map(_shown, reports)) or "no route has a canary")


class _Watched(RedisCanaries):
    """Looks on: what could be decided now is left to those who serve."""

    async def exchange(self, key: ExperimentKey, run: int, batch: Batch) -> Kept:
        self._seen = await super().exchange(key, run, batch._replace(number=0))  # which is none, and leaves no trace
        return self._seen

    async def decide(self, key: ExperimentKey, run: int, record: bytes, *, replaces: bool) -> Kept:
        return self._seen


def _read(route: str | None) -> list[dict[str, object]]:
    """All reports, or that of one route. Ends the command where there is none, or Redis cannot be reached."""
    try:
        config = load(config_path())
        check_settings(config, os.environ)
        routes = [one for one in config.routes if one.canary is not None and route in (None, one.alias)]
        if route is not None and not routes:
            raise click.BadParameter(f"there is no canary on a route with the name '{route}'", param_hint="ROUTE")
        with redis_for_cli(config) as url:
            return asyncio.run(_reports(config, url, routes))
    except ConfigError as error:
        raise Unreadable(str(error)) from None


async def _reports(config: Config, url: str, routes: Sequence[RouteConfig]) -> list[dict[str, object]]:
    client = RespClient(parse_address(url, config.redis.sentinels), connect_s=_PATIENCE_S, timeout_s=_PATIENCE_S)
    store: CanaryStore = _Watched(client, prefix=config.redis.prefix)
    identities, clock = answering_identities(config), SystemClock()
    await client.start()
    try:
        reports = [await experiment_of(route, identities, store, clock).report() for route in routes]
    finally:
        await client.aclose()
    if not all(one["is_current"] for one in reports):
        raise Unreadable("Redis cannot be reached")
    return reports


def _shown(known: Report) -> str:
    share = f"{100 * known['share']:g} % of requests" if known["mode"] == "split" else "in the shadow"
    lines = [f"{known['route']}: {known['state'].replace('_', ' ')}, {share}"]
    figures: list[tuple[str, ...]] = [("", "control", "canary")]
    for heading, key, form in _FIGURES:
        both = [known[key.format(arm=arm)] for arm in ("control", "canary")]
        figures.append((heading, *("-" if value is None else form.format(value) for value in both)))
    lines += _aligned(figures)
    if (improvement := known["improvement"]) is not None:
        lines.append(f"  {abs(improvement):.1f} % {'quicker' if improvement >= 0 else 'slower'} on average")
    guards = [tuple(heading for heading, _ in _GUARDS)]
    guards += [tuple(_number(one[key]) for _, key in _GUARDS) for one in known["guards"]]
    lines += _aligned(guards)
    lines += [f"  {_decision(record)}" for record in known["audit"]]
    return "\n".join(lines)


def _aligned(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def _decision(record: Report) -> str:
    at = datetime.fromtimestamp(record["at_unix_s"], UTC).isoformat(timespec="seconds")
    why = f", for its {record['guard']}" if record["guard"] else ""
    return f"{at}  {record['action']} of {record['canary']} by {record['by']}{why}"
