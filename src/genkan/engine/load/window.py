"""The context window, as far as it can be known before a model is loaded."""

from pathlib import Path

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError, ModelFileError


def check_window(config: EngineConfig, path: Path) -> None:
    """Raises ConfigError when ``max_model_len`` is larger than the window of the model in ``path``.

    Reads the file's header, which takes two seconds, only when the setting is there. Never loads torch.
    """
    if config.max_model_len is None:
        return
    from gguf import GGUFReader

    try:
        field = GGUFReader(path).get_field("llama.context_length")
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path} is not a readable GGUF file: {error}") from error
    own = int(field.contents()) if field is not None else config.max_model_len
    if config.max_model_len > own:
        raise ConfigError(
            "engine.max_model_len", f"must be at most the model's own {own}; given: {config.max_model_len}"
        )
