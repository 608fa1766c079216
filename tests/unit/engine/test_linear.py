"""What weights are packed into, and which can be; kernels/test_linear.py has what they multiply to."""

import numpy as np
import pytest
from compiled_kernels import compiled_kernels
from quantised import random_tensor, tensor_of

from genkan.engine.kernels.library import WeightKind
from genkan.engine.linear import PackedLinear, aligned_zeros, can_pack, stored_alike
from genkan.engine.load.gguf import GgufTensor
from genkan.engine.models.decoder import Rows
from genkan.errors import ModelFileError


def matrix(kind: str, rows: int, cols: int = 256) -> GgufTensor:
    return random_tensor(kind, (rows, cols), np.random.default_rng(rows))


@pytest.mark.parametrize(
    ("kinds", "stored"),
    [
        (["Q4_0"], WeightKind.Q4),
        (["Q4_1"], WeightKind.Q4),
        (["Q4_0", "Q4_1"], WeightKind.Q4),
        (["Q4_K"], WeightKind.Q4_WIDE),
        (["Q8_0"], WeightKind.Q8),
        (["Q8_0", "Q5_0"], WeightKind.Q8),
        (["Q5_1"], WeightKind.Q8_WIDE),
        (["Q5_K"], WeightKind.Q8_WIDE),
        (["Q4_0", "Q8_0"], WeightKind.Q8_WIDE),
        (["Q6_K"], WeightKind.Q8_FINE),
        (["Q6_K", "Q8_0"], WeightKind.Q8_FINE),
        (["Q4_K", "Q6_K"], WeightKind.BF16),
        (["F32"], WeightKind.BF16),
    ],
)
def test_codes_stay_codes_where_all_are_alike(kinds: list[str], stored: WeightKind) -> None:
    packed = PackedLinear(compiled_kernels(), [Rows(matrix(kind, 8)) for kind in kinds], bf16=True)
    assert packed.view.kind == stored
    assert (packed.view.outputs, packed.view.inputs) == (8 * len(kinds), 256)


@pytest.mark.parametrize(("outputs", "panels"), [(1, 2), (32, 2), (33, 4), (64, 4)])
def test_outputs_are_filled_up_to_pairs_of_panels(outputs: int, panels: int) -> None:
    library = compiled_kernels()
    packed = PackedLinear(library, [Rows(matrix("Q8_0", outputs))], bf16=False)
    assert packed.view.panels == panels
    assert packed.num_bytes == panels * library.panel_bytes(WeightKind.Q8, 256)


def test_rows_are_packed_in_the_order_that_is_given() -> None:
    values = np.arange(2 * 32, dtype=np.float32).reshape(2, 32)
    rows = Rows(tensor_of("F32", values.shape, values), np.array([1, 0]))
    packed = PackedLinear(compiled_kernels(), [rows], bf16=False)
    panel = packed._data.view(np.float32)[: 32 * 16].reshape(32, 16)
    assert panel[:, 0].tolist() == values[1].tolist()
    assert panel[:, 1].tolist() == values[0].tolist()
    assert not panel[:, 2:].any()


def test_a_damaged_scale_is_an_error() -> None:
    data = matrix("Q8_0", 4).data.copy()
    data[0, :2] = np.array([np.nan], dtype=np.float16).view(np.uint8)
    with pytest.raises(ModelFileError, match="damaged"):
        PackedLinear(compiled_kernels(), [Rows(tensor_of("Q8_0", (4, 256), data))], bf16=False)


def test_inputs_come_in_groups_of_32() -> None:
    assert can_pack([Rows(matrix("F32", 3, 96)), Rows(matrix("F32", 5, 32))])
    assert not can_pack([Rows(matrix("F32", 3, 96)), Rows(matrix("F32", 5, 48))])


@pytest.mark.parametrize(
    ("kinds", "alike"),
    [
        (["Q4_0", "Q4_K"], True),
        (["Q5_0", "Q8_0"], True),
        (["F16", "F32"], True),
        (["Q4_K", "Q4_K", "Q6_K"], False),
        (["Q8_0", "Q5_1"], False),
        (["Q8_0", "F16"], False),
    ],
)
def test_rows_stored_alike_lose_nothing_as_one_matrix(kinds: list[str], alike: bool) -> None:
    assert stored_alike([Rows(matrix(kind, 8)) for kind in kinds]) == alike


@pytest.mark.parametrize("num_bytes", [1, 64, 1000])
def test_zeros_begin_on_a_cache_line(num_bytes: int) -> None:
    zeros = aligned_zeros(num_bytes)
    assert len(zeros) == num_bytes
    assert zeros.ctypes.data % 64 == 0
    assert not zeros.any()
