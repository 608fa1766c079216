"""What blocks mean, against the gguf package's own reading of them, bit for bit."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from genkan.engine.load.blocks import dense, half_split_order, int4_groups, int8_groups
from genkan.engine.load.gguf import GgufFile, GgufTensor
from genkan.errors import ModelFileError

HALVES_AT = {  # where a block has its float16 numbers
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
}  # fmt: skip
ROWS = 40  # so many that rare codes meet: a minimum of 0, a code of 0 and a negative scale give -0


def stored(kind: str, num_blocks: int = 3) -> GgufTensor:
    """A tensor of random blocks: every code occurs, and the scales are of either sign."""
    block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    random = np.random.default_rng(num_blocks)
    blocks = random.integers(0, 256, (ROWS, num_blocks, block_bytes), dtype=np.uint8)
    for at in HALVES_AT[kind]:
        blocks[..., at : at + 2] = random.standard_normal((ROWS, num_blocks, 1)).astype(np.float16).view(np.uint8)
    return tensor_of(kind, (ROWS, num_blocks * block_values), blocks.reshape(ROWS, -1))


def tensor_of(kind: str, shape: tuple[int, ...], data: npt.NDArray[Any]) -> GgufTensor:
    data = data.view(np.uint8)
    data.setflags(write=False)  # as a mapped file's are
    return GgufTensor("w", kind, shape, data)


def with_half(tensor: GgufTensor, at: int, half: float) -> GgufTensor:
    """``tensor`` with ``half`` as the float16 number at byte ``at`` of its first block."""
    data = tensor.data.copy()
    data[0, at : at + 2] = np.array([half], dtype=np.float16).view(np.uint8)
    return tensor_of(tensor.kind, tensor.shape, data)


def by_gguf(tensor: GgufTensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = dequantize(tensor.data, GGMLQuantizationType[tensor.kind])
    return values.reshape(tensor.shape)


def is_same(ours: npt.NDArray[Any] | torch.Tensor, theirs: npt.NDArray[np.float32]) -> bool:
    """Whether they are equal bit for bit, signs of zeros included."""
    ours = np.asarray(ours)
    return ours.dtype == np.float32 and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


def is_of(part: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> bool:
    return bool(part.dtype == dtype) and part.shape == shape


def per_value(group_numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.repeat(group_numbers, 32, axis=1)


@pytest.mark.parametrize("num_blocks", [1, 3])
@pytest.mark.parametrize("kind", HALVES_AT)
def test_quantised_blocks_become_the_values_that_gguf_gives(kind: str, num_blocks: int) -> None:
    tensor = stored(kind, num_blocks)
    assert is_same(dense(tensor), by_gguf(tensor))


@pytest.mark.parametrize("num_blocks", [1, 3])
@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K"])
def test_four_bit_groups_give_the_values_that_gguf_gives(kind: str, num_blocks: int) -> None:
    tensor = stored(kind, num_blocks)
    codes, scale, minimum = int4_groups(tensor)
    assert is_same(per_value(scale) * codes + per_value(minimum), by_gguf(tensor))


def test_groups_of_q4_0_give_the_same_but_for_the_sign_of_zeros() -> None:
    tensor = stored("Q4_0")
    codes, scale, minimum = int4_groups(tensor)
    values, theirs = per_value(scale) * codes + per_value(minimum), by_gguf(tensor)
    assert np.array_equal(values, theirs)
    assert is_same(values, theirs + np.float32(0))  # which makes -0 to +0
    assert not is_same(values, theirs)


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_eight_bit_groups_give_the_values_that_gguf_gives(num_blocks: int) -> None:
    tensor = stored("Q8_0", num_blocks)
    codes, scale = int8_groups(tensor)
    assert is_same(per_value(scale) * codes, by_gguf(tensor))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K"])
def test_four_bit_groups_are_of_these_types_and_shapes(kind: str) -> None:
    tensor = stored(kind)
    codes, scale, minimum = int4_groups(tensor)
    _, cols = tensor.shape
    assert is_of(codes, np.uint8, (ROWS, cols))
    assert (codes.min(), codes.max()) == (0, 15)
    assert is_of(scale, np.float32, (ROWS, cols // 32))
    assert is_of(minimum, np.float32, (ROWS, cols // 32))


def test_eight_bit_groups_are_of_these_types_and_shapes() -> None:
    codes, scale = int8_groups(stored("Q8_0"))
    assert is_of(codes, np.int8, (ROWS, 96))
    assert is_of(scale, np.float32, (ROWS, 3))


@pytest.mark.parametrize("num_blocks", [1, 3])
@pytest.mark.parametrize(("kind", "groups"), [("Q4_0", int4_groups), ("Q4_K", int4_groups), ("Q8_0", int8_groups)])
def test_groups_are_in_memory_of_their_own(kind: str, groups: Any, num_blocks: int) -> None:
    tensor = stored(kind, num_blocks)
    for part in groups(tensor):
        assert part.flags.writeable
        assert part.flags.c_contiguous
        assert not np.shares_memory(part, tensor.data)


@pytest.mark.parametrize("shape", [(6,), (3, 2), (1, 2, 3)])
@pytest.mark.parametrize(("kind", "dtype"), [("F32", np.float32), ("F16", np.float16)])
def test_floats_become_float32_in_their_own_shape(kind: str, dtype: Any, shape: tuple[int, ...]) -> None:
    values = np.array([0.1, -0.0, 65504, np.inf, 6e-8, -3], dtype=dtype)
    ours = dense(tensor_of(kind, shape, values.reshape(-1, shape[-1])))
    assert is_same(ours, values.astype(np.float32).reshape(shape))
    ours.zero_()  # memory of its own
    assert values[0] != 0


def test_bfloat16_becomes_float32() -> None:
    values = torch.tensor([[0.1, -0.0, 3e38], [torch.inf, 1e-40, -3]], dtype=torch.bfloat16)
    ours = dense(tensor_of("BF16", (2, 3), values.view(torch.int16).numpy()))
    assert is_same(ours, values.float().numpy())


def test_data_may_lie_at_an_odd_address() -> None:
    data = np.zeros(4 * 6 + 1, dtype=np.uint8)[1:]
    data[:] = np.arange(6, dtype=np.float32).view(np.uint8)
    assert dense(tensor_of("F32", (2, 3), data.reshape(2, 12))).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("kind", ["F32", "Q4_0", "Q8_0", "Q4_K"])
def test_a_kind_without_such_groups_is_refused_by_name(kind: str) -> None:
    tensor = GgufTensor("blk.0.w", kind, (1, 256), np.zeros((1, 144), dtype=np.uint8))
    for groups, kinds in ((int4_groups, ("Q4_0", "Q4_K")), (int8_groups, ("Q8_0",))):
        if kind not in kinds:
            with pytest.raises(ModelFileError, match=rf"blk\.0\.w is {kind}"):
                groups(tensor)


@pytest.mark.parametrize("kind", ["Q8_1", "I32", "F64"])
def test_a_kind_that_nobody_can_read_is_an_error_that_names_it(kind: str) -> None:
    with pytest.raises(ModelFileError, match=rf"the tensor w is {kind}"):
        dense(tensor_of(kind, (1, 32), np.zeros((1, 40), dtype=np.uint8)))


@pytest.mark.parametrize("half", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("kind", "at"), [("Q4_0", 0), ("Q4_1", 0), ("Q4_1", 2), ("Q4_K", 0), ("Q4_K", 2), ("Q8_0", 0)])
def test_a_scale_that_is_not_finite_is_damage(kind: str, at: int, half: float) -> None:
    with pytest.raises(ModelFileError, match="the tensor w is damaged"):
        dense(with_half(stored(kind), at, half))


def test_the_largest_scales_are_fine() -> None:
    for kind, halves_at in HALVES_AT.items():
        tensor = stored(kind)
        for at in halves_at:
            tensor = with_half(tensor, at, -65504)
        assert is_same(dense(tensor), by_gguf(tensor))


def test_infinite_scales_of_other_kinds_are_passed_on_in_silence() -> None:
    zeros = np.zeros((1, 22), dtype=np.uint8)
    zeros[:, 2:6] = 0xFF  # the high bits of the codes: each is 16, which stands for 0
    values = dense(with_half(tensor_of("Q5_0", (1, 32), zeros), 0, np.inf))
    assert values.isnan().all()  # infinity times 0, of which numpy would warn


def test_the_default_model_is_what_gguf_makes_of_it(smollm: GgufFile) -> None:
    for name in ("blk.0.attn_q.weight", "blk.29.ffn_down.weight", "output_norm.weight"):
        assert is_same(dense(smollm.tensors[name]), by_gguf(smollm.tensors[name]))


@pytest.mark.parametrize(("num_heads", "head_dim"), [(1, 2), (2, 4), (4, 8), (9, 64)])
def test_rows_go_back_to_where_llama_cpp_took_them_from(num_heads: int, head_dim: int) -> None:
    rows = np.arange(num_heads * head_dim)
    # LlamaModel.permute of its converter
    interleaved = rows.reshape(num_heads, 2, head_dim // 2).swapaxes(1, 2).reshape(rows.shape)
    order = half_split_order(len(rows), num_heads)
    assert order.dtype == np.int64
    assert np.array_equal(interleaved[order], rows)


def test_the_order_of_one_head() -> None:
    assert half_split_order(8, 1).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize(("rows", "num_heads"), [(8, 3), (6, 2), (8, 0), (8, -1)])
def test_rows_that_are_no_heads_are_an_error(rows: int, num_heads: int) -> None:
    with pytest.raises(ModelFileError, match=f"{rows} rows cannot be {num_heads} attention heads"):
        half_split_order(rows, num_heads)
