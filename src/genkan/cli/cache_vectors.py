"""Vectors of texts for a command: of the configured embedder, in this process, or from a file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import click
import numpy as np
from numpy.typing import NDArray

from genkan.cache.evaluation.compared import Embed
from genkan.config import config_path, load
from genkan.config.cache import EmbedderConfig
from genkan.errors import ConfigError, ModelFileError, RequestError

if TYPE_CHECKING:
    from genkan.embedding.embedder import Embedder

_AT_ONCE = 256
Vectors = NDArray[np.float32]

vectors_option = click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="An .npz file with `texts` and their `vectors`, in place of the embedder; may be given more than once.",
)


def embedder_config() -> EmbedderConfig:
    """The configured embedder, or the default one. Ends the command with what is wrong with the configuration."""
    try:
        return load(config_path()).embedder or EmbedderConfig()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def embed_by(config: EmbedderConfig, files: Sequence[Path]) -> Embed:
    """From ``files`` if there are any, else computed here; nothing is loaded before it is called."""
    return _from_files(files) if files else _computed(config)


def _from_files(files: Sequence[Path]) -> Embed:
    def embed(texts: Sequence[str]) -> Vectors:
        known = dict[str, Vectors]()
        for path in files:
            known.update(_read(path))
        missing = [text for text in texts if text not in known]
        if missing:
            raise click.ClickException(f"{len(missing)} of {len(texts)} texts have no vector, such as {missing[0]!r}")
        try:
            return np.stack([known[text] for text in texts])
        except ValueError:
            raise click.ClickException("--vectors: they are not all of one model: their lengths differ") from None

    return embed


def _read(path: Path) -> dict[str, Vectors]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            vectors = kept["vectors"].astype(np.float32)
            if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=0.01):
                raise ValueError("they must have unit length")
            return dict(zip(kept["texts"].tolist(), vectors, strict=True))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise click.ClickException(f"{path} has no vectors of texts: {error}") from None


def _computed(config: EmbedderConfig) -> Embed:
    def embed(texts: Sequence[str]) -> Vectors:
        try:
            embedder = _loaded(config)
            parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
            with click.progressbar(parts, label=f"{len(texts):,} texts", file=sys.stderr) as shown:
                return np.concatenate([embedder.embed(part).vectors for part in shown])
        except (ModelFileError, RequestError) as error:
            raise click.ClickException(str(error)) from None

    return embed


def _loaded(config: EmbedderConfig) -> "Embedder":
    if config.model.startswith("upstream:"):
        raise click.ClickException("the configured embedder is an upstream's; give --vectors with what it computed")
    try:
        from genkan.embedding.embedder import Embedder  # brings torch in, which no other command needs
    except ImportError as error:
        raise click.ClickException(f"texts cannot be embedded here: {error}; --vectors needs no embedder") from None
    return Embedder.load(config)
