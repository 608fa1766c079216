"""Products of the C kernels against float64, through a model without layers: embedding, norm, head.

Its embeddings are rows of ±1, which its norm multiplies by weights that are bfloat16 numbers. So what the head is
multiplied by is known exactly, in either precision.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from compiled_kernels import compiled_kernels
from quantised import random_tensor, tensor_of

from genkan.engine.kernels import library as c
from genkan.engine.linear import PackedLinear
from genkan.engine.load.blocks import dense
from genkan.engine.load.gguf import GgufTensor
from genkan.engine.models.decoder import Rows

KINDS = ["Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "F16", "BF16", "F32"]
NUM_IDS = 300

Ids = Sequence[int] | npt.NDArray[np.int64]


class HeadOnly:
    """A model that multiplies ``x`` by a head; ``x`` is ``[NUM_IDS, inputs]``, a row for each token id."""

    def __init__(
        self,
        head: Sequence[GgufTensor],
        *,
        bf16: bool,
        interleave: bool = False,
        embedding: GgufTensor | None = None,
        embedding_bf16: bool = False,
    ) -> None:
        inputs = head[0].shape[1]
        random = np.random.default_rng(inputs)
        signs = random.choice(np.array([-1, 1], dtype=np.float32), (NUM_IDS, inputs))
        norm = torch.from_numpy(random.standard_normal(inputs)).bfloat16().float()
        self.x = signs * norm.numpy()
        self._library = compiled_kernels()
        packed = PackedLinear(self._library, [Rows(part) for part in head], bf16=bf16, interleave=interleave)
        embedded = embedding or tensor_of("F32", signs.shape, signs)
        table = PackedLinear(self._library, [Rows(embedded)], bf16=embedding_bf16)
        self.norm = norm
        self._keep = (packed, table)
        self.kind, self._outputs = c.WeightKind(packed.view.kind), packed.view.outputs
        self._model = c.Model(
            hidden=inputs, heads=1, kv_heads=1, head_dim=inputs, ffn=16, bf16=bf16, norm_epsilon=0.0,
            embedding_scale=1.0, embedding=table.view, head=packed.view, final_norm=norm.data_ptr(),
        )  # fmt: skip

    def logits(self, ids: Ids, *, threads: int = 1) -> torch.Tensor:
        """Of every one of ``ids``, float32 ``[len(ids), outputs]``."""
        rows = np.arange(len(ids), dtype=np.int32)
        token_ids = np.asarray(ids, dtype=np.int32)
        first_row = np.zeros(1, dtype=np.int32)
        out = torch.full((len(ids), self._outputs), torch.nan)
        batch = c.Batch(
            rows=len(ids), ids=token_ids.ctypes.data, first_row=first_row.ctypes.data,
            outputs=len(ids), output_row=rows.ctypes.data, logits=out.data_ptr(),
        )  # fmt: skip
        workspace = self._library.workspace_create(threads)
        try:
            assert self._library.step_run(self._model, batch, workspace) == 0
        finally:
            self._library.workspace_destroy(workspace)
        return out


def head(kind: str, outputs: int, inputs: int, seed: int = 1) -> GgufTensor:
    return random_tensor(kind, (outputs, inputs), np.random.default_rng(seed))


def assert_is_product(logits: torch.Tensor, x: npt.NDArray[np.float32], weights: torch.Tensor) -> None:
    """Within what sums in float32 may lose: a part of the sum of all magnitudes."""
    left, right = torch.from_numpy(x).double(), weights.double().T
    error = (logits.double() - left @ right).abs()
    assert (error <= 1e-6 * (left.abs() @ right.abs())).all()


def as_multiplied(tensor: GgufTensor, *, bf16: bool) -> torch.Tensor:
    return dense(tensor).bfloat16() if bf16 else dense(tensor)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("inputs", [256, 768])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_multiplies_as_its_values_say(kind: str, inputs: int, bf16: bool) -> None:
    weights = head(kind, 70, inputs)
    model = HeadOnly([weights], bf16=bf16)
    assert_is_product(model.logits(range(40)), model.x[:40], as_multiplied(weights, bf16=bf16))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("inputs", [32, 96, 192, 224, 416])
@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
def test_rows_of_any_number_of_groups(kind: str, inputs: int, bf16: bool) -> None:
    weights = head(kind, 32, inputs)
    model = HeadOnly([weights], bf16=bf16)
    assert_is_product(model.logits(range(5)), model.x[:5], as_multiplied(weights, bf16=bf16))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 31, 32, 33, 48, 49, 100])
@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F32"])
def test_any_number_of_outputs(kind: str, outputs: int, bf16: bool) -> None:
    weights = head(kind, outputs, 64)
    model = HeadOnly([weights], bf16=bf16)
    assert_is_product(model.logits(range(13)), model.x[:13], as_multiplied(weights, bf16=bf16))


@pytest.mark.parametrize(
    ("kinds", "stored"),
    [
        (("Q4_0", "Q4_1"), c.WeightKind.Q4),
        (("Q4_1", "Q4_K"), c.WeightKind.Q4_WIDE),
        (("Q8_0", "Q8_0"), c.WeightKind.Q8),
        (("Q8_0", "Q5_0"), c.WeightKind.Q8),
        (("Q4_1", "Q8_0"), c.WeightKind.Q8_WIDE),
        (("Q5_0", "Q5_1", "Q5_K", "Q4_K"), c.WeightKind.Q8_WIDE),
        (("Q6_K", "Q8_0", "Q5_0"), c.WeightKind.Q8_FINE),
        (("Q6_K", "Q4_K"), c.WeightKind.F32),
        (("F16", "Q4_K", "BF16"), c.WeightKind.F32),
    ],
)
def test_a_product_may_be_of_several_matrices(kinds: tuple[str, ...], stored: c.WeightKind) -> None:
    parts = [head(kind, 20 + place, 256, seed=place) for place, kind in enumerate(kinds)]
    model = HeadOnly(parts, bf16=False)
    assert model.kind is stored
    assert_is_product(model.logits(range(9)), model.x[:9], torch.cat([dense(part) for part in parts]))


def test_dense_weights_become_bfloat16_where_products_are() -> None:
    assert HeadOnly([head("F16", 20, 64)], bf16=True).kind is c.WeightKind.BF16


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
def test_interleaved_matrices_take_turns_of_16_rows(kind: str, bf16: bool) -> None:
    first, second = (head(kind, 48, 64, seed=seed) for seed in (1, 2))
    model = HeadOnly([first, second], bf16=bf16, interleave=True)
    values = [as_multiplied(part, bf16=bf16).reshape(3, 16, 64) for part in (first, second)]
    turns = torch.stack(values, dim=1).reshape(96, 64)
    assert_is_product(model.logits(range(4)), model.x[:4], turns)


def test_scales_beyond_float16_are_kept_whole() -> None:
    weights = head("Q4_0", 40, 64)
    data = weights.data.copy()
    data[3, :2] = np.array([60_000], dtype=np.float16).view(np.uint8)  # so its minimum is -480 000
    weights = tensor_of("Q4_0", weights.shape, data)
    model = HeadOnly([weights], bf16=False)
    assert model.kind is c.WeightKind.Q4_WIDE
    assert_is_product(model.logits(range(8)), model.x[:8], dense(weights))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_output_is_the_same_bits_for_any_number_of_rows(kind: str, bf16: bool) -> None:
    model = HeadOnly([head(kind, 70, 256)], bf16=bf16)
    alone = torch.cat([model.logits([token]) for token in range(NUM_IDS)])
    for count in [*range(1, 41), NUM_IDS]:
        assert torch.equal(model.logits(range(count)), alone[:count]), count


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K", "Q5_1", "Q6_K", "Q8_0", "F32"])
def test_an_output_is_the_same_bits_in_any_place_among_any_rows(kind: str, bf16: bool) -> None:
    model = HeadOnly([head(kind, 70, 256)], bf16=bf16)
    all_rows = model.logits(range(NUM_IDS))
    for seed in range(3):
        ids = np.random.default_rng(seed).permutation(NUM_IDS)[: 270 + seed]
        assert torch.equal(model.logits(ids), all_rows[torch.from_numpy(ids)])


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_an_output_is_the_same_bits_for_any_number_of_threads(threads: int, kind: str, bf16: bool) -> None:
    model = HeadOnly([head(kind, 333, 224)], bf16=bf16)
    for count in (1, 40, NUM_IDS):
        assert torch.equal(model.logits(range(count), threads=threads), model.logits(range(count)))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_the_values_of_their_rows(kind: str, bf16: bool) -> None:
    stored = head(kind, NUM_IDS, 256)
    weights = head("F32", 64, 256, seed=2)
    model = HeadOnly([weights], bf16=False, embedding=stored, embedding_bf16=bf16)
    ids = [0, 1, 15, 16, 17, 299, 0, 128]
    is_dense = kind in ("F16", "BF16", "F32")
    rows = as_multiplied(stored, bf16=bf16 and is_dense)[ids].double()
    x = rows / rows.square().mean(dim=-1, keepdim=True).sqrt() * model.norm
    assert_is_product(model.logits(ids), x.float().numpy(), dense(weights))


def test_equal_embeddings_of_two_kinds_are_equal_bit_for_bit() -> None:
    stored, weights = head("Q4_K", NUM_IDS, 256), head("F32", 64, 256, seed=2)
    same = tensor_of("F32", stored.shape, dense(stored).numpy())
    ours, theirs = (HeadOnly([weights], bf16=False, embedding=each) for each in (stored, same))
    assert torch.equal(ours.logits(range(NUM_IDS)), theirs.logits(range(NUM_IDS)))
