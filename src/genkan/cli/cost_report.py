"""``genkan cost report``: what the ledger adds up to."""

import json
import sys
from collections.abc import Iterable
from datetime import date, datetime

import click

from genkan.cli.ledger_access import DAY, day_of, with_ledger
from genkan.gateway.csv_line import csv_line
from genkan.gateway.ledger_pages import ledger_pages
from genkan.gateway.ledger_report import BYS, COUNTERS, By, Sums, Totals
from genkan.gateway.ledger_report import report as report_of
from genkan.gateway.money import usd_text
from genkan.store.accounts import Accounts

_NONE = "(none)"


@click.command()
@click.option("--by", type=click.Choice(BYS), default="model", show_default=True)
@click.option("--since", type=DAY, help="First day (UTC).")
@click.option("--until", type=DAY, help="Last day (UTC).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header.")
def report(by: By, since: datetime | None, until: datetime | None, as_json: bool, as_csv: bool) -> None:
    """Requests, tokens, cost and what prefix caches saved, from the ledger.

    Cost is what clients are billed. Requests whose price is not known are counted apart and not in the sum.
    """
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    totals = with_ledger(_totals)
    first, last = day_of(since), day_of(until)
    if as_json:
        click.echo(json.dumps(report_of(totals, by, since=first, until=last)))
    elif as_csv:
        sys.stdout.buffer.write(_csv(totals, by, first, last))
    else:
        click.echo(_table(totals, by, first, last))
    if totals.malformed and not as_json:
        click.echo(f"left out: {totals.malformed} malformed rows", err=True)


async def _totals(accounts: Accounts) -> Totals:
    totals = Totals()
    async for page in ledger_pages(accounts):
        totals.feed(page)
    return totals


def _csv(totals: Totals, by: By, since: date | None, until: date | None) -> bytes:
    groups = totals.by(by, since=since, until=until).items()
    lines = [csv_line((by, *COUNTERS, "cost_usd", "saved_usd"))]
    for name, sums in groups:
        money = usd_text(sums.cost_nano_usd), usd_text(sums.saved_nano_usd)
        lines.append(csv_line((name, *(getattr(sums, counter) for counter in COUNTERS), *money)))
    return b"".join(lines)


def _table(totals: Totals, by: By, since: date | None, until: date | None) -> str:
    groups = totals.by(by, since=since, until=until)
    total = totals.total(since=since, until=until)
    headings = (by, "requests", "errors", "lost", "prompt", "completion", "cached", "cost $", "saved $", "no price")
    cells = [headings, *(_cells(name or _NONE, sums) for name, sums in groups.items()), _cells("total", total)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_aligned(line, widths) for line in cells)


def _cells(name: str, sums: Sums) -> tuple[str, ...]:
    counts = sums.requests, sums.errors, sums.lost, sums.prompt_tokens, sums.completion_tokens, sums.cached_tokens
    money = usd_text(sums.cost_nano_usd), usd_text(sums.saved_nano_usd)
    return (name, *(f"{count:,}" for count in counts), *money, f"{sums.unknown_cost:,}")


def _aligned(cells: Iterable[str], widths: list[int]) -> str:
    first, *rest = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest)).rstrip()
