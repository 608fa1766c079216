"""The ``genkan`` command."""

import json
import sys
from pathlib import Path

import click

from genkan import __version__
from genkan.config import Config, config_path, load
from genkan.errors import ConfigError


@click.group()
@click.version_option(__version__)
def main() -> None:
    """An LLM gateway with its own engine. `make serve` or `bentoml serve` runs it."""


@main.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
def config(path: Path | None) -> None:
    """Check a configuration and print it with every default and override in place."""
    try:
        checked = load(path or config_path())
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(checked.model_dump_json(indent=2))


@main.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    click.echo(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))
