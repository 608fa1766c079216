"""Safetensors files: what is read from them, and every way in which one is refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from genkan.engine.load import safetensors
from genkan.engine.load.blocks import dense, stored_values
from genkan.errors import ModelFileError

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.tensor([1.5, -2.25, 1e-3]).to(torch.bfloat16),
    "c": torch.tensor([[0.5], [65_504.0]]).to(torch.float16),
    "d": torch.tensor(7.0),
}
ONE = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def written(path: Path, header: object, data: bytes = b"", *, header_bytes: int | None = None) -> Path:
    """A file with this header, which is JSON unless it is bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if header_bytes is None else header_bytes).to_bytes(8, "little") + raw + data)
    return path


# What is read


def test_tensors_have_the_values_and_shapes_that_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    file = safetensors.read(path)
    assert file.tensors.keys() == TENSORS.keys()
    for name, saved in TENSORS.items():
        tensor = file.tensors[name]
        assert (tensor.name, tensor.shape) == (name, tuple(saved.shape))
        assert torch.equal(dense(tensor), saved.float())
        assert torch.equal(stored_values(tensor), saved)
        assert stored_values(tensor).dtype == saved.dtype


def test_the_digest_is_the_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"a": ONE}, bytes(24))
    assert safetensors.read(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_data_need_not_be_aligned(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4")
    header = json.dumps({"a": ONE}).encode()
    path = written(tmp_path / "a.safetensors", header + b" " * (1 - len(header) % 2), values.tobytes())
    assert dense(safetensors.read(path).tensors["a"]).flatten().tolist() == values.tolist()


def test_data_are_a_read_only_view(tmp_path: Path) -> None:
    tensor = safetensors.read(written(tmp_path / "a.safetensors", {"a": ONE}, bytes(24))).tensors["a"]
    with pytest.raises(ValueError, match="read-only"):
        tensor.data[0, 0] = 1


def test_a_type_that_the_engine_does_not_compute_with_is_known_by_its_name(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    tensor = safetensors.read(written(tmp_path / "a.safetensors", header, bytes(4))).tensors["a"]
    with pytest.raises(ModelFileError, match="tensor a is F8_E4M3, which cannot be read"):
        dense(tensor)


# What is refused


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {**ONE, **changes}}


WRONG: dict[str, tuple[object, int]] = {
    "no object": ([1], 0),
    "no JSON": (b"{", 0),
    "no UTF-8": (b'{"\xff": 1}', 0),
    "nested without end": (b"[" * 100_000, 0),
    "a name twice": (b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2), 24),
    "half a character": ({"\ud800": ONE}, 24),
    "a name of two lines": ({"a\nb": ONE}, 24),
    "a tensor that is no object": ({"a": 1}, 0),
    "a tensor without offsets": ({"a": {"dtype": "F32", "shape": [6]}}, 24),
    "a tensor with more to it": (entry(strides=[3, 1]), 24),
    "an unknown type": (entry(dtype="Q4"), 24),
    "a type that is no text": (entry(dtype=[]), 24),
    "a shape of fractions": (entry(shape=[2.0, 3]), 24),
    "a shape of truths": (entry(shape=[True, 6]), 24),
    "a negative shape": (entry(shape=[-2, -3]), 24),
    "an endless shape": (entry(shape=[1] * 9 + [6]), 24),
    "a shape that overflows": (entry(shape=[1 << 40, 1 << 40]), 24),
    "an empty shape": (entry(shape=[0, 3], data_offsets=[0, 0]), 0),
    "three offsets": (entry(data_offsets=[0, 24, 48]), 24),
    "offsets that go back": (entry(data_offsets=[24, 0]), 24),
    "another size than the shape's": (entry(data_offsets=[0, 20]), 20),
    "beyond the end": (entry(), 20),
    "data of no tensor": (entry(), 28),
    "a gap": ({"a": ONE, "b": {**ONE, "data_offsets": [28, 52]}}, 52),
    "two in one place": ({"a": ONE, "b": ONE}, 24),
    "one over the other": ({"a": ONE, "b": {**ONE, "data_offsets": [20, 44]}}, 44),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_malformed_file_is_refused_with_its_name(tmp_path: Path, wrong: str) -> None:
    header, data_bytes = WRONG[wrong]
    path = written(tmp_path / "odd.safetensors", header, bytes(data_bytes))
    with pytest.raises(ModelFileError, match=r"odd\.safetensors is not a readable safetensors file"):
        safetensors.read(path)


@pytest.mark.parametrize("header_bytes", [100, 1 << 63, (1 << 64) - 1])
def test_a_header_that_is_longer_than_the_file_is_refused_at_once(tmp_path: Path, header_bytes: int) -> None:
    path = written(tmp_path / "odd.safetensors", {}, header_bytes=header_bytes)
    with pytest.raises(ModelFileError, match=f"its header of {header_bytes} bytes goes beyond its end"):
        safetensors.read(path)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_file_that_ends_at_once_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "odd.safetensors").write_bytes(bytes(size))
    with pytest.raises(ModelFileError, match=r"odd\.safetensors is not a readable"):
        safetensors.read(tmp_path / "odd.safetensors")


def test_nobody_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"a\.safetensors is no file"):
        safetensors.read(tmp_path / "a.safetensors")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.safetensors cannot be read: No such file"):
        safetensors.read(tmp_path / "gone.safetensors")


def test_damage_anywhere_in_the_header_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    path, random = tmp_path / "model.safetensors", np.random.default_rng(0)
    save_file(TENSORS, path)
    sound, refused = path.read_bytes(), 0
    header_end = 8 + int.from_bytes(sound[:8], "little")
    for _ in range(400):
        damaged = bytearray(sound)
        for place in random.integers(0, header_end, random.integers(1, 4)):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged[: random.integers(0, len(sound)) if random.random() < 0.2 else None])
        try:
            for tensor in safetensors.read(path).tensors.values():
                assert len(tensor.data.tobytes()) > 0
        except ModelFileError:
            refused += 1
    assert refused > 300
