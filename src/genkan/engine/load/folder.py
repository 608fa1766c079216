"""A model as a folder, the way transformers saves it: ``config.json`` and safetensors, in one file or in several.

Nothing in it is run: a folder that has its weights only as pickles is refused.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkan.engine.load import safetensors
from genkan.engine.load.gguf import GgufTensor
from genkan.errors import ModelFileError

CONFIG = "config.json"
_ONE_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ModelFolder:
    """``config`` is what ``config.json`` says; ``tensors`` those of all its files; ``digest``, in hex, of it all."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, GgufTensor]
    digest: str


def read(path: Path) -> ModelFolder:
    """The model in the folder ``path``. Raises ModelFileError when a part is missing or malformed."""
    config = read_config(path)
    tensors: dict[str, GgufTensor] = {}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file_name, wanted in _files(path).items():
        file = safetensors.read(path / file_name)
        digest.update(file.digest.encode())
        if wanted is not None and (missing := sorted(wanted - file.tensors.keys())):
            raise ModelFileError(f"{path / file_name} lacks {len(missing)} tensors, such as {missing[0]}")
        for name, tensor in file.tensors.items():
            if name in tensors:
                raise ModelFileError(f"{path} has the tensor {name} twice")
            tensors[name] = tensor
    return ModelFolder(path, config, tensors, digest.hexdigest())


def read_config(path: Path) -> dict[str, Any]:
    """What ``config.json`` in the folder ``path`` says. Raises ModelFileError."""
    return _json_object(path / CONFIG)


def _files(path: Path) -> dict[str, set[str] | None]:
    """The files with weights, and what the index says of each, if there is one."""
    if not (path / _INDEX).is_file():
        if not (path / _ONE_FILE).is_file():
            raise ModelFileError(_without_weights(path))
        return {_ONE_FILE: None}
    index = _json_object(path / _INDEX).get("weight_map")
    if not isinstance(index, dict) or not index or not all(map(_is_file_name, index.values())):
        raise ModelFileError(f"{path / _INDEX} has no weight_map of tensors and files of this folder")
    files: dict[str, set[str] | None] = {
        file_name: {name for name, place in index.items() if place == file_name} for file_name in set(index.values())
    }
    return dict(sorted(files.items()))


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _without_weights(path: Path) -> str:
    if pickles := sorted(_pickles(path.iterdir())):
        return (
            f"{path} has its weights as a pickle, {pickles[0]}, which can run anything and is never read: "
            f"save the model as safetensors"
        )
    return f"{path} holds neither {_ONE_FILE} nor {_INDEX}"


def _pickles(files: Iterable[Path]) -> list[str]:
    return [file.name for file in files if file.suffix in _PICKLES]


def _json_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ModelFileError(f"{path} is larger than any such file")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{path} is no JSON object")
    return value
