"""GGUF files: what the gguf package writes is read as the gguf package reads it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFWriter, quantize
from gguf_bytes import INT32, STRING, UINT8, array, entry, gguf_bytes, pair

from genkan.engine.load import gguf
from genkan.engine.load.gguf import GgufFile
from genkan.errors import ModelFileError

Q8_0 = GGMLQuantizationType.Q8_0
MATRIX = np.random.default_rng(1).standard_normal((6, 64)).astype(np.float32)
STACK = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
VECTOR = np.arange(5, dtype=np.float16)


def written(path: Path, *, alignment: int | None = None, endianess: GGUFEndian = GGUFEndian.LITTLE) -> Path:
    """A file by the gguf package, with a key-value of every type and tensors of one, two and three dimensions."""
    writer = GGUFWriter(path, "llama", endianess=endianess)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for size in (8, 16, 32, 64):
        getattr(writer, f"add_uint{size}")(f"u{size}", 2**size - 1)
        getattr(writer, f"add_int{size}")(f"i{size}", -(2 ** (size - 1)))
    writer.add_float32("f32", 1e-5)
    writer.add_float64("f64", 1e-5)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "a\u0000ă\n\u0120한🦊")
    writer.add_array("texts", ["a", "ă", "\u0120한"])
    writer.add_array("ints", [-3, 0, 7])
    writer.add_array("floats", [0.1, float("inf")])
    writer.add_array("bools", [True, False])
    writer.add_tensor("matrix", quantize(MATRIX, Q8_0), raw_dtype=Q8_0)
    writer.add_tensor("vector", VECTOR)
    writer.add_tensor("stack", STACK)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read_bytes(folder: Path, content: bytes) -> GgufFile:
    return gguf.read(saved(folder / "by_hand.gguf", content))


@pytest.fixture
def file(tmp_path: Path) -> GgufFile:
    return gguf.read(written(tmp_path / "tiny.gguf"))


def typed(value: Any) -> Any:
    """``value`` with its types, so that 1, 1.0 and True are three values."""
    return [typed(item) for item in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("read", [gguf.read_metadata, lambda path: gguf.read(path).metadata])
def test_the_key_values_are_those_that_the_gguf_package_reads(tmp_path: Path, read: Any) -> None:
    path = written(tmp_path / "tiny.gguf", alignment=64)
    theirs = {name: typed(field.contents()) for name, field in GGUFReader(path).fields.items()}
    ours = {name: typed(value) for name, value in read(path).items()}
    assert ours == theirs
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("alignment", [None, 8, 4096])
def test_the_tensors_are_those_that_the_gguf_package_reads(tmp_path: Path, alignment: int | None) -> None:
    path = written(tmp_path / "tiny.gguf", alignment=alignment)
    ours, theirs = gguf.read(path).tensors, {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    assert list(ours) == list(theirs) == ["matrix", "vector", "stack"]
    for name, tensor in ours.items():
        assert tensor.name == name
        assert tensor.kind == theirs[name].tensor_type.name
        assert tensor.shape == tuple(reversed(theirs[name].shape.tolist()))
        assert tensor.data.tobytes() == theirs[name].data.tobytes()


def test_data_has_the_rows_of_the_tensor(file: GgufFile) -> None:
    shapes = {name: tensor.data.shape for name, tensor in file.tensors.items()}
    assert shapes == {"matrix": (6, 2 * 34), "vector": (1, 5 * 2), "stack": (2 * 3, 4 * 4)}


def test_data_is_bytes_that_cannot_be_written(file: GgufFile) -> None:
    data = file.tensors["matrix"].data
    assert data.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        data[0, 0] = 1


def test_the_digest_is_the_sha256_of_the_file(file: GgufFile) -> None:
    assert file.digest == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_a_file_outlives_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "tiny.gguf")
    tensor = gguf.read(path).tensors["vector"]
    path.unlink()
    assert tensor.data.tobytes() == VECTOR.tobytes()


def test_the_kinds_have_the_blocks_that_the_gguf_package_knows() -> None:
    theirs = {kind.value: (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert theirs == gguf._KINDS


def test_the_default_model_is_read(smollm: GgufFile) -> None:
    assert smollm.metadata["llama.block_count"] == 30
    assert len(smollm.metadata["tokenizer.ggml.tokens"]) == smollm.metadata["llama.vocab_size"] == 49152
    assert len(smollm.tensors) == smollm.metadata["GGUF.tensor_count"]
    assert smollm.tensors["blk.29.attn_k.weight"].kind == "Q4_1"
    assert smollm.tensors["blk.29.attn_k.weight"].shape == (192, 576)


def test_version_2_is_read(tmp_path: Path) -> None:
    content = bytearray(gguf_bytes([pair("a", UINT8, b"\7")]))
    content[4] = 2
    assert read_bytes(tmp_path, bytes(content)).metadata["a"] == 7


def test_a_file_may_be_empty_but_for_its_header(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, gguf_bytes())
    assert file.metadata == {"GGUF.version": 3, "GGUF.tensor_count": 0, "GGUF.kv_count": 0}
    assert file.tensors == {}


def test_an_empty_array_is_an_empty_list(tmp_path: Path) -> None:
    content = gguf_bytes([array("a", INT32, 0, b""), array("b", STRING, 0, b"")])
    assert read_bytes(tmp_path, content).metadata["a"] == []
    assert read_bytes(tmp_path, content).metadata["b"] == []


def test_tensors_may_share_their_data_and_lie_in_any_order(tmp_path: Path) -> None:
    entries = [entry("late", [8], offset=32), entry("early", [16]), entry("same", [16])]
    tensors = read_bytes(tmp_path, gguf_bytes(entries=entries, data=bytes(range(64)))).tensors
    assert tensors["late"].data.tobytes() == bytes(range(32, 64))
    assert tensors["early"].data.tobytes() == tensors["same"].data.tobytes() == bytes(range(64))


def test_a_small_file_cannot_be_a_large_model(tmp_path: Path) -> None:
    entries = [entry(str(place), [1024]) for place in range(3)]  # which all begin where the data does
    with pytest.raises(ModelFileError, match="its tensors share their data"):
        read_bytes(tmp_path, gguf_bytes(entries=entries, data=bytes(4096)))


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"big\.gguf .*big-endian"):
        gguf.read(written(tmp_path / "big.gguf", endianess=GGUFEndian.BIG))


def test_metadata_alone_does_not_need_the_tensors(tmp_path: Path) -> None:
    path = saved(tmp_path / "header.gguf", gguf_bytes([pair("a", UINT8, b"\7")], num_tensors=5))
    assert gguf.read_metadata(path)["a"] == 7


@pytest.mark.parametrize("read", [gguf.read, gguf.read_metadata])
def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path, read: Any) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.gguf cannot be read: No such file"):
        read(tmp_path / "gone.gguf")
    with pytest.raises(ModelFileError, match="cannot be read: Is a directory"):
        read(tmp_path)
