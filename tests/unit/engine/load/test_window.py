"""A context window that the model does not have is refused before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest
from gguf_bytes import STRING, UINT32, gguf_bytes, pair, text, u32

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


def test_without_the_setting_no_file_is_looked_at(tmp_path: Path) -> None:
    check_window(EngineConfig(max_model_len=None), tmp_path / "gone.gguf")


def test_a_model_that_does_not_say_its_window_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "silent.gguf"
    path.write_bytes(gguf_bytes())
    check_window(EngineConfig(max_model_len=100), path)


def test_a_window_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(gguf_bytes([pair("llama.context_length", STRING, text("8192"))]))
    with pytest.raises(ModelFileError, match=r"odd\.gguf has a llama\.context_length that is not a number: '8192'"):
        check_window(EngineConfig(max_model_len=100), path)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "no-such"])
def test_every_architecture_has_a_name_of_its_own_for_it(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "other.gguf"
    pairs = [
        pair("general.architecture", STRING, text(architecture)),
        pair("llama.context_length", UINT32, u32(1_000)),
        pair(f"{architecture}.context_length", UINT32, u32(64)),
    ]
    path.write_bytes(gguf_bytes(pairs))
    check_window(EngineConfig(max_model_len=64), path)
    with pytest.raises(ConfigError, match="at most the model's own 64; given: 65"):
        check_window(EngineConfig(max_model_len=65), path)


def test_a_folder_says_it_in_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    check_window(EngineConfig(max_model_len=64), tmp_path)
    with pytest.raises(ConfigError, match="at most the model's own 64; given: 65"):
        check_window(EngineConfig(max_model_len=65), tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": "64"}')
    with pytest.raises(ModelFileError, match="has a max_position_embeddings that is not a number: '64'"):
        check_window(EngineConfig(max_model_len=65), tmp_path)


def test_a_file_that_is_no_model_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"test_window\.py is not a readable GGUF file"):
        check_window(EngineConfig(max_model_len=100), Path(__file__))


def test_the_check_loads_neither_torch_nor_gguf() -> None:
    code = (
        "import sys\n"
        "from genkan.engine.config import EngineConfig\n"
        "from genkan.engine.load.source import locate\n"
        "from genkan.engine.load.window import check_window\n"
        "config = EngineConfig(max_model_len=100)\n"
        "check_window(config, locate(config.model))\n"
        "print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
