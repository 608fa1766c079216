"""The ``genkan`` command."""

import asyncio
import json
import os
import sys
from pathlib import Path

import click

from genkan import __version__
from genkan.cli.bench import bench
from genkan.cli.cache import cache
from genkan.cli.canary import canary
from genkan.cli.cost import cost
from genkan.cli.cost_report import report
from genkan.cli.drain import drain
from genkan.cli.keys import keys
from genkan.cli.ledger import ledger
from genkan.cli.metrics import metrics
from genkan.cli.models import models
from genkan.config import Config, config_path, load
from genkan.errors import ConfigError
from genkan.preflight import check_settings


@click.group()
@click.version_option(__version__)
def main() -> None:
    """An LLM gateway with its own engine. `make serve` or `bentoml serve` runs it."""


@main.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
def config(path: Path | None) -> None:
    """Check a configuration and print it with every default and override in place."""
    click.echo(_with_own_prices(_loaded(path)).model_dump_json(indent=2))


@main.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Only what can be told without asking the upstreams.")
def check(path: Path | None, offline: bool) -> None:
    """Check a configuration, its keys, and that its upstreams are there and have the models it names.

    One line a finding; the exit code is 1 when one of them is an error.
    """
    checked = _loaded(path)
    from genkan.upstream import check as upstreams  # brings an HTTP client in, which the other commands do not need

    findings = asyncio.run(upstreams.check(checked, os.environ, offline=offline))
    for finding in findings:
        click.echo(f"{finding.level:<8}{finding.upstream}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


@main.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    click.echo(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))


main.add_command(keys)
main.add_command(cost)
main.add_command(ledger)
main.add_command(cache)
main.add_command(canary)
main.add_command(drain)
main.add_command(bench)
main.add_command(models)
main.add_command(metrics)
cost.add_command(report)


def _loaded(path: Path | None) -> Config:
    """The configuration that would be served; ends the command with what is wrong with it."""
    try:
        config = load(path or config_path())
        check_settings(config, os.environ)
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    return config


def _with_own_prices(config: Config) -> Config:
    """Without prices at upstreams that are not here: only a list in a file of its own may have them, not what we print.

    They count for nothing in this configuration.
    """
    upstreams = {upstream.name for upstream in config.upstreams}
    own = [price for price in config.prices.models if price.upstream is None or price.upstream in upstreams]
    return config.model_copy(update={"prices": config.prices.model_copy(update={"models": own})})
