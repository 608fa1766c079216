"""The context window, as far as it can be known before a model is loaded."""

from pathlib import Path

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError, ModelFileError

_OWN = "llama.context_length"


def check_window(config: EngineConfig, path: Path) -> None:
    """Raises ConfigError when ``max_model_len`` is larger than the window of the model in ``path``.

    Reads the file's key-values, which takes 0.03 s, only when the setting is there. Never loads torch.
    Raises ModelFileError when they cannot be read.
    """
    if config.max_model_len is None:
        return
    from genkan.engine.load.gguf import read_metadata  # here, because it brings numpy in

    own = read_metadata(path).get(_OWN, config.max_model_len)
    if type(own) is not int:
        raise ModelFileError(f"{path} has a {_OWN} that is not a number: {own!r}")
    if config.max_model_len > own:
        raise ConfigError(
            "engine.max_model_len", f"must be at most the model's own {own}; given: {config.max_model_len}"
        )
