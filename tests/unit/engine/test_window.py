"""A context window that the model does not have is refused before anything starts."""

from pathlib import Path

import pytest

from genkan.engine.config import EngineConfig
from genkan.engine.load.source import locate
from genkan.engine.load.window import check_window
from genkan.errors import ConfigError, ModelFileError

PATH = locate(EngineConfig().model)


def test_a_window_that_the_model_has_is_fine() -> None:
    check_window(EngineConfig(max_model_len=8192), PATH)


def test_a_larger_one_is_refused_with_both_figures() -> None:
    with pytest.raises(ConfigError, match="at most the model's own 8192; given: 8193") as caught:
        check_window(EngineConfig(max_model_len=8193), PATH)
    assert caught.value.path == "engine.max_model_len"


def test_a_file_that_is_no_model_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"test_window\.py is not a readable GGUF file"):
        check_window(EngineConfig(max_model_len=100), Path(__file__))
