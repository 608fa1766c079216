"""``genkan models``: the models that a Bento takes along."""

import os
import sys
from pathlib import Path

import click

from genkan.config import config_path, load
from genkan.errors import ConfigError, ModelFileError


@click.group()
def models() -> None:
    """Models in BentoML's store."""


@models.command("import")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def import_command(path: Path | None) -> None:
    """Bring the models that a configuration takes from wheels into BentoML's store, for a Bento to take along."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    try:
        from genkan.model_store import import_models  # takes a second, which the other commands do not need

        imported = import_models(load(path or config_path()))
    except (ConfigError, ModelFileError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    for model in imported:
        click.echo(f"{model.tag}  {'imported' if model.is_new else 'there already'}")
