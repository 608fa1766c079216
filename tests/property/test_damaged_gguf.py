"""GGUF files with bytes flipped or cut off: each is refused as damaged, or read within its own bytes."""

from contextlib import suppress
from pathlib import Path

import pytest
from gguf_bytes import F32, INT32, Q4_1, Q8_0, STRING, UINT32, array, entry, gguf_bytes, pair, text, u32
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.engine.load import gguf
from genkan.engine.load.blocks import dense
from genkan.errors import ModelFileError

quick = settings(max_examples=600, deadline=None)

VALID = gguf_bytes(
    [
        pair("general.alignment", UINT32, u32(32)),
        pair("name", STRING, text("ă")),
        array("tokens", STRING, 3, text("a") + text("") + text("한")),
        array("types", INT32, 3, u32(1, 2, 3)),
    ],
    [entry("norm", [4], F32, 0), entry("up", [64, 2], Q4_1, 32), entry("down", [32, 3], Q8_0, 128)],
    bytes(range(230)),
)
FLIPS = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(1, 255)), max_size=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.gguf"


def read_all(path: Path) -> None:
    """Reads the file and every value in it, and checks that they are what the header says."""
    file = gguf.read(path)
    assert len(file.metadata) == 3 + file.metadata["GGUF.kv_count"]
    assert len(file.tensors) == file.metadata["GGUF.tensor_count"]
    for tensor in file.tensors.values():
        assert tensor.data.size <= path.stat().st_size
        assert tuple(dense(tensor).shape) == tensor.shape


def test_the_file_is_valid_before_it_is_damaged(path: Path) -> None:
    path.write_bytes(VALID)
    read_all(path)


@quick
@given(FLIPS, st.integers(0, len(VALID)))
def test_a_damaged_file_is_refused_as_such_or_read(path: Path, flips: list[tuple[int, int]], cut_bytes: int) -> None:
    content = bytearray(VALID)
    for place, bits in flips:
        content[place] ^= bits
    path.write_bytes(content[: len(content) - cut_bytes])
    with suppress(ModelFileError):
        read_all(path)


def test_a_file_with_one_wrong_bit_is_refused_as_such_or_read(path: Path) -> None:
    for place in range(8 * len(VALID)):
        content = bytearray(VALID)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with suppress(ModelFileError):
            read_all(path)
