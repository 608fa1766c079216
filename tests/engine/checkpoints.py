"""GGUF files as transformers reads them. That takes it some 20 s, so each is read once for all tests of a run."""

import copy
import functools
from pathlib import Path
from typing import Any

from transformers import modeling_gguf_pytorch_utils

_load = modeling_gguf_pytorch_utils.load_gguf_checkpoint
_described = functools.cache(_load)
_whole: dict[str, dict[str, Any]] = {}


def load_gguf_checkpoint(path: str | Path, return_tensors: bool = False, model_to_load: Any = None) -> dict[str, Any]:
    """In place of transformers' function of this name, and what that returns.

    The tensors, in float32, are the same for all who ask for them, until ``forget``: nobody may change them.
    """
    name = str(path)
    if not return_tensors:
        return copy.deepcopy(_described(name))
    if name not in _whole:
        _whole[name] = _load(name, return_tensors=True, model_to_load=model_to_load)
    return _whole[name]


def forget() -> None:
    """Free the tensors."""
    _whole.clear()
