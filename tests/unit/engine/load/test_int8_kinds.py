"""Codes of at most 8 bits against gguf's own values, bit for bit."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize
from quantised import random_tensor, tensor_of

from genkan.engine.load.int8_kinds import byte_groups
from genkan.errors import ModelFileError

RANGES = {
    "Q4_0": (0, 15), "Q4_1": (0, 15), "Q4_K": (0, 15), "Q5_0": (-16, 15), "Q5_1": (0, 31), "Q5_K": (0, 31),
    "Q6_K": (-32, 31), "Q8_0": (-128, 127),
}  # fmt: skip


@pytest.mark.parametrize("kind", RANGES)
def test_the_values_are_those_of_gguf(kind: str) -> None:
    tensor = random_tensor(kind, (20, 768), np.random.default_rng(1))
    codes, scale, minimum = byte_groups(tensor)
    values = codes.reshape(20, scale.shape[1], -1) * scale[..., None]
    if minimum is not None:
        values = values + minimum[..., None]
    assert values.dtype == np.float32
    assert np.array_equal(values.reshape(20, 768), dequantize(tensor.data, GGMLQuantizationType[kind]))


@pytest.mark.parametrize("kind", RANGES)
def test_codes_are_bytes_of_the_kind_s_range(kind: str) -> None:
    codes, scale, minimum = byte_groups(random_tensor(kind, (20, 768), np.random.default_rng(1)))
    assert codes.dtype == np.int8
    assert (codes.min(), codes.max()) == RANGES[kind]
    assert scale.shape == (20, 768 // (16 if kind == "Q6_K" else 32))
    assert (minimum is None) == (kind in ("Q5_0", "Q6_K", "Q8_0"))


@pytest.mark.parametrize("kind", RANGES)
def test_a_damaged_scale_is_an_error(kind: str) -> None:
    tensor = random_tensor(kind, (4, 256), np.random.default_rng(1))
    data = tensor.data.copy()
    at = data.shape[1] - 2 if kind == "Q6_K" else 0
    data[2, at : at + 2] = np.array([np.nan], dtype=np.float16).view(np.uint8)
    with pytest.raises(ModelFileError, match="damaged"):
        byte_groups(tensor_of(kind, (4, 256), data))


def test_other_kinds_have_no_such_codes() -> None:
    with pytest.raises(ModelFileError, match="F16"):
        byte_groups(random_tensor("F16", (4, 256), np.random.default_rng(1)))
