"""``genkan ledger reconcile``: the ledger against an upstream's own account."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import get_args

import click

from genkan.cli.ledger_access import DAY, Unreadable, is_between, with_ledger
from genkan.gateway.ledger_export import Form
from genkan.gateway.ledger_pages import ledger_pages
from genkan.gateway.ledger_row import read_row
from genkan.gateway.money import read_usd, usd_text
from genkan.gateway.reconciliation import EXAMPLES, Comparison, Difference, Reconciliation, Side, Used
from genkan.gateway.upstream_usage import Columns, Record, read_csv, read_jsonl
from genkan.store.accounts import Accounts


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--upstream", help="Whose export it is; attempts elsewhere are left out.")
@click.option("--since", type=DAY, help="First day (UTC) of the ledger's side.")
@click.option("--until", type=DAY, help="Last day (UTC) of the ledger's side.")
@click.option("--format", "form", type=click.Choice(get_args(Form)), help="By default as the file's name says.")
@click.option("--id-column", default="request_id", show_default=True, help="With our x-client-request-id.")
@click.option("--prompt-column", default="prompt_tokens", show_default=True)
@click.option("--completion-column", default="completion_tokens", show_default=True)
@click.option("--cost-column", default="cost_usd", show_default=True, help="Where it is missing, cost is not compared.")
@click.option("--cost-tolerance-usd", "tolerance", default="0.000000001", show_default=True, metavar="USD")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def reconcile(
    file: str,
    upstream: str | None,
    since: datetime | None,
    until: datetime | None,
    form: Form | None,
    id_column: str,
    prompt_column: str,
    completion_column: str,
    cost_column: str,
    tolerance: str,
    as_json: bool,
) -> None:
    """Compare the ledger's attempts with an upstream's own export of what it served, CSV or JSONL.

    FILE "-" is stdin. In JSONL a dot in a column's name leads into an object. Ends with 1 if the two differ, with 2 if
    they cannot be compared.
    """
    columns = Columns(id_column, prompt_column, completion_column, cost_column)
    reconciliation = Reconciliation(upstream, cost_tolerance_nano_usd=_nano_usd(tolerance))
    _add_records(reconciliation, file, form, columns)

    async def add_rows(accounts: Accounts) -> None:
        async for page in ledger_pages(accounts):
            for _, raw in page:
                if (row := read_row(raw)) is not None and is_between(row, since, until):
                    reconciliation.add_row(row)

    with_ledger(add_rows)
    comparison = reconciliation.compared()
    click.echo(json.dumps(comparison.as_json()) if as_json else "\n".join(_report(comparison)))
    if not comparison.agrees:
        sys.exit(1)


def _nano_usd(text: str) -> int:
    try:
        return read_usd(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cost-tolerance-usd") from None


def _add_records(reconciliation: Reconciliation, file: str, form: Form | None, columns: Columns) -> None:
    try:
        for record in _records(file, form, columns):
            if record is None:
                reconciliation.add_malformed()
            else:
                reconciliation.add_record(record.request_id, record.used)
    except (OSError, ValueError) as error:  # also what is not UTF-8
        raise Unreadable(f"{file}: {error}") from None


def _records(file: str, form: Form | None, columns: Columns) -> Iterator[Record | None]:
    is_csv = form == "csv" or (form is None and file.lower().endswith(".csv"))
    with click.open_file(file, encoding="utf-8-sig") as lines:  # spreadsheets put a byte order mark before the first
        yield from (read_csv if is_csv else read_jsonl)(lines, columns)


def _report(comparison: Comparison) -> Iterator[str]:
    yield f"{'matched':<18}{comparison.matched:>12,}"
    for finding, count in comparison.counts.items():
        yield f"{finding.replace('_', ' '):<18}{count:>12,}"
    yield f"{'unused':<18}{comparison.unused:>12,}"
    yield f"{'malformed there':<18}{comparison.malformed:>12,}"
    yield from (_side("here", comparison.here), _side("there", comparison.there))
    yield from map(_difference, comparison.examples)
    if any(count > EXAMPLES for count in comparison.counts.values()):
        yield f"Only the first {EXAMPLES} of each are listed."


def _side(name: str, side: Side) -> str:
    return (
        f"{name + ':':<7}{side.attempts:,} attempts, {side.prompt_tokens:,} + {side.completion_tokens:,} tokens "
        f"(not known of {side.unknown_tokens:,}), {usd_text(side.cost_nano_usd)} $ (not known of {side.unknown_cost:,})"
    )


def _difference(difference: Difference) -> str:
    sides = f"here {_used(difference.here)}; there {_used(difference.there)}"
    return f"{difference.finding.replace('_', ' ')}: {difference.id or '(no id)'}: {sides}"


def _used(used: Used | None) -> str:
    if used is None:
        return "nothing"
    tokens = "?" if used.prompt_tokens is None else f"{used.prompt_tokens} + {used.completion_tokens}"
    return f"{tokens} tokens, {'?' if used.cost_nano_usd is None else usd_text(used.cost_nano_usd)} $"
