"""The context window, as far as it can be known before a model is loaded."""

from pathlib import Path
from typing import Any

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError, ModelFileError


def check_window(config: EngineConfig, path: Path) -> None:
    """Raises ConfigError when ``max_model_len`` is larger than the window of the model in ``path``.

    Reads what the model says of itself, which takes 0.03 s for a GGUF file, only when the setting is there. Never loads
    torch. Raises ModelFileError when that cannot be read.
    """
    if config.max_model_len is None:
        return
    name, own = _own_window(path)
    if own is None:
        return
    if type(own) is not int:
        raise ModelFileError(f"{path} has a {name} that is not a number: {own!r}")
    if config.max_model_len > own:
        raise ConfigError(
            "engine.max_model_len", f"must be at most the model's own {own}; given: {config.max_model_len}"
        )


def _own_window(path: Path) -> tuple[str, Any]:
    """What the model calls its window, and what it says that is, or None."""
    from genkan.engine.load import folder, gguf  # here, because they bring numpy in

    if path.is_dir():
        name = "max_position_embeddings"
        return name, folder.read_config(path).get(name)
    values = gguf.read_metadata(path)
    name = f"{values.get('general.architecture', 'llama')}.context_length"
    return name, values.get(name)
