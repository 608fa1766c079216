"""``genkan cost``: what models cost."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genkan.config import OVERRIDE_PREFIX, config_path, load
from genkan.cost_comparison import PARAMETERS, Comparison, Row, asked
from genkan.cost_comparison import compare as comparison_of
from genkan.errors import ConfigError, InvalidRequest
from genkan.gateway.prices import PriceBook

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NANO_PER_CENT = 10**7
_HEADINGS = ("model", "price", "without cache $", "with cache $", "saved $", "GPUs pay from requests/day")


@click.group()
def cost() -> None:
    """What models cost."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for parameter in reversed(PARAMETERS):
        command = click.option(_option(parameter.name), parameter.name, metavar="N", help=parameter.meaning)(command)
    return command


@cost.command()
@_with_options
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Another price list than the configuration's.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it to this file, .png or .svg.")
def compare(prices_file: Path | None, as_json: bool, plot: Path | None, **given: str | None) -> None:
    """Monthly cost of a workload with every priced model, and on GPUs of your own.

    Requests that the cache answers cost nothing. Tokens given as one number cost the flat price of a model that has
    one; else, and with a prefix share, they are three parts input to one part output at the prices of each.
    """
    prices = _price_book(prices_file)
    try:
        workload, hosting = asked({name: text for name, text in given.items() if text is not None})
    except InvalidRequest as error:
        raise click.BadParameter(error.message, param_hint=_option(error.param or "")) from None
    comparison = comparison_of(prices, workload, hosting)
    if plot is not None:
        _draw(comparison, plot)
    click.echo(json.dumps(comparison.as_object()) if as_json else _table(comparison))


def _price_book(file: Path | None) -> PriceBook:
    """Ends the command with what is wrong with the configuration or the list."""
    environ = dict(os.environ)
    if file is not None:
        environ[f"{OVERRIDE_PREFIX}PRICES"] = json.dumps(str(file.resolve()))
    try:
        prices = PriceBook(load(config_path(), environ).prices)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    if not any(prices):
        raise click.ClickException("the configuration has no prices; --prices names a file with some")
    return prices


def _table(comparison: Comparison) -> str:
    work = comparison.workload
    title = (
        f"{work.requests_per_day:,} requests a day of {work.input_tokens:,} + {work.output_tokens:,} tokens for "
        f"{work.days} days; the cache answers {float(work.cache_hit_rate * 100):.6g} % of them, and "
        f"{float(work.prefix_share * 100):.6g} % of prompt tokens are cached input"
    )
    columns = len(_HEADINGS) if comparison.hosting else len(_HEADINGS) - 1
    cells = [_HEADINGS[:columns], *(_cells(row)[:columns] for row in comparison.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_aligned(line, widths) for line in cells]
    return "\n".join([title, *lines])


def _cells(row: Row) -> tuple[str, ...]:
    money = (row.without_cache_nano_usd, row.with_cache_nano_usd, row.saved_nano_usd)
    even = row.break_even_requests_per_day
    return (row.name, row.basis, *map(_dollars, money), "-" if even is None else f"{even:,}")


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    aligned = [
        cell.rjust(width) if place > 1 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _dollars(nano_usd: int) -> str:
    cents = (nano_usd + _NANO_PER_CENT // 2) // _NANO_PER_CENT
    return f"{cents // 100:,}.{cents % 100:02d}"


def _draw(comparison: Comparison, path: Path) -> None:
    """A bar for each row without and with our cache, dollars on a logarithmic axis."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise click.ClickException("--plot needs matplotlib, which is not installed") from None
    rows = comparison.rows[::-1]  # the first is drawn at the bottom
    figure = Figure(figsize=(8, 1.5 + 0.4 * len(rows)), layout="constrained")
    axes: Axes = figure.subplots()
    for offset, label, values in (
        (0.2, "without cache", [row.without_cache_nano_usd / 1e9 for row in rows]),
        (-0.2, "with cache", [row.with_cache_nano_usd / 1e9 for row in rows]),
    ):
        bars = axes.barh([place + offset for place in range(len(rows))], values, 0.4, label=label)
        axes.bar_label(bars, labels=[f" {value:,.2f}" for value in values], fontsize=7)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set(xlabel="dollars a month", xscale="symlog")
    axes.margins(x=0.15)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot draw {path}: {error}") from None
