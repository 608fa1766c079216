"""``genkan ledger``: export the ledger, compare it with an upstream's, list what was lost."""

import sys
from datetime import UTC, datetime
from typing import get_args

import click

from genkan.cli.ledger_access import DAY, Cursor, is_between, with_ledger
from genkan.cli.reconcile import reconcile
from genkan.gateway.ledger_export import Form, LedgerExport
from genkan.gateway.ledger_pages import ledger_pages
from genkan.gateway.ledger_row import LOST, Row, read_row
from genkan.store.accounts import Accounts

_FORMS = get_args(Form)


@click.group()
def ledger() -> None:
    """The record of every request, its attempts and their cost."""


@ledger.command()
@click.option(
    "--after", type=Cursor(), default="", metavar="CURSOR", help="Only rows after it; from the beginning if not given."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows.")
@click.option("--format", "form", type=click.Choice(_FORMS), default="jsonl", show_default=True)
@click.option("--attempts", is_flag=True, help="A line for each attempt at an upstream, not for each request.")
@click.option("--header/--no-header", default=None, help="Names of CSV columns; by default only without --after.")
def export(after: str, limit: int | None, form: Form, attempts: bool, header: bool | None) -> None:
    """Write the ledger's rows to stdout, oldest first, and the cursor to go on after to stderr.

    Going on after the last cursor gives each row exactly once. Of several lines with the same id the last one counts:
    a request that had been closed as lost and was found later has a second one, marked as late.
    """
    written = LedgerExport(form, attempts=attempts)
    out = sys.stdout.buffer
    if header or (header is None and not after):
        out.write(written.head)

    async def write(accounts: Accounts) -> None:
        cursor = after
        try:
            async for page in ledger_pages(accounts, after, at_most=limit):
                out.write(b"".join([written.lines(raw) for _, raw in page]))
                out.flush()
                cursor = page[-1][0]
        finally:  # also when it was interrupted: what came out ends there
            click.echo(f"cursor: {cursor}", err=True)

    with_ledger(write)
    if written.malformed:
        click.echo(f"left out: {written.malformed} malformed rows", err=True)


@ledger.command()
@click.option("--since", type=DAY, help="First day (UTC).")
@click.option("--until", type=DAY, help="Last day (UTC).")
@click.option("--json", "as_json", is_flag=True, help="The rows themselves, one a line.")
def lost(since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """List requests whose worker died before they ended, without those that were found later."""
    for row, raw in with_ledger(_still_lost):
        if is_between(row, since, until):
            click.echo(raw if as_json else f"{_time(row)}  {row.id}  {row.tenant}  {row.key or '-'}  {row.route}")


ledger.add_command(reconcile)


async def _still_lost(accounts: Accounts) -> list[tuple[Row, bytes]]:
    lost: dict[str, tuple[Row, bytes]] = {}
    async for page in ledger_pages(accounts):
        for _, raw in page:
            if (row := read_row(raw)) is not None:
                lost.pop(row.id, None)
                if row.state == LOST:
                    lost[row.id] = row, raw
    return list(lost.values())


def _time(row: Row) -> str:
    return datetime.fromtimestamp(row.t_s, UTC).isoformat(timespec="seconds")
