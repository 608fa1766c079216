"""Folders as transformers saves them: one file or several, and nothing that could run."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genkan.engine.load import folder
from genkan.engine.load.blocks import dense
from genkan.errors import ModelFileError

CONFIG = {"architectures": ["LlamaForCausalLM"]}
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with a ``config.json`` alone."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def sharded(path: Path, **places: str) -> Path:
    """The folder with two shards, ``a`` in one and ``b`` in the other, and an index that says so, or ``places``."""
    save_file({"a": torch.ones(2)}, path / FIRST)
    save_file({"b": torch.zeros(3)}, path / SECOND)
    (path / INDEX).write_text(json.dumps({"weight_map": {"a": FIRST, "b": SECOND, **places}}))
    return path


def test_a_file_and_what_the_configuration_says(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path / "model.safetensors")
    model = folder.read(path)
    assert (model.path, model.config) == (path, CONFIG)
    assert dense(model.tensors["a"]).tolist() == [1.0, 1.0]


def test_several_files_are_one_model(path: Path) -> None:
    model = folder.read(sharded(path))
    assert sorted(model.tensors) == ["a", "b"]
    assert dense(model.tensors["b"]).tolist() == [0.0, 0.0, 0.0]


def test_the_digest_is_of_the_weights_and_of_the_configuration(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path / "model.safetensors")
    digests = [folder.read(path).digest, folder.read(path).digest]
    (path / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 1}))
    digests.append(folder.read(path).digest)
    save_file({"a": torch.zeros(2)}, path / "model.safetensors")
    digests.append(folder.read(path).digest)
    assert [digests.index(digest) for digest in digests] == [0, 0, 2, 3]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_a_pickle_is_never_read_and_refused_by_name(path: Path, name: str) -> None:
    (path / name).write_bytes(pickle.dumps(Trap(path / "ran")))
    with pytest.raises(ModelFileError, match=rf"as a pickle, {name}, which can run anything and is never read"):
        folder.read(path)
    assert not (path / "ran").exists()


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


def test_the_trap_of_that_test_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_beside_safetensors_a_pickle_is_left_alone(path: Path) -> None:
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(path / "ran")))
    save_file({"a": torch.ones(2)}, path / "model.safetensors")
    assert sorted(folder.read(path).tensors) == ["a"]
    assert not (path / "ran").exists()


def test_a_folder_without_weights_is_an_error(path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds neither model\.safetensors nor model\.safetensors\.index\.json"):
        folder.read(path)


def test_a_tensor_that_its_shard_lacks_is_named(path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"{SECOND} lacks 1 tensors, such as c"):
        folder.read(sharded(path, c=SECOND))


def test_a_tensor_in_two_shards_is_named(path: Path) -> None:
    sharded(path)
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, path / SECOND)
    with pytest.raises(ModelFileError, match="has the tensor a twice"):
        folder.read(path)


def test_a_shard_that_is_not_there_is_named(path: Path) -> None:
    (sharded(path) / SECOND).unlink()
    with pytest.raises(ModelFileError, match=rf"{SECOND} cannot be read"):
        folder.read(path)


@pytest.mark.parametrize("place", ["../a.safetensors", "/etc/a.safetensors", "a.bin", "", "x/a.safetensors"])
def test_a_shard_is_a_file_of_the_folder(path: Path, place: str) -> None:
    with pytest.raises(ModelFileError, match="has no weight_map of tensors and files of this folder"):
        folder.read(sharded(path, a=place))


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "{", "[" * 100_000])
def test_an_index_that_is_none_is_an_error(path: Path, index: str) -> None:
    (path / INDEX).write_text(index)
    with pytest.raises(ModelFileError, match=r"model\.safetensors\.index\.json"):
        folder.read(path)


@pytest.mark.parametrize("config", ["", "[]", "7", "{", '{"a": NaN', "[" * 100_000])
def test_a_configuration_that_is_none_is_an_error(path: Path, config: str) -> None:
    (path / "config.json").write_text(config)
    with pytest.raises(ModelFileError, match=r"config\.json is no"):
        folder.read(path)


def test_a_folder_without_a_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read: No such file"):
        folder.read(tmp_path)


def test_a_configuration_that_is_far_too_large_is_not_read(path: Path) -> None:
    with (path / "config.json").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ModelFileError, match="is larger than any such file"):
        folder.read(path)
