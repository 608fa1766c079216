"""Small decoders for the C kernels, of the sizes and with the parts that real ones differ in, and runs of them."""

import ctypes

from compiled_kernels import compiled_kernels
from forced_runs import part, token_ids
from random_decoders import RandomDecoder

from genkan.engine.batch import Batch
from genkan.engine.kernel_model import KernelModel
from genkan.engine.models.decoder import Decoder, LayerKind

TILES = 40
POSITIONS = 256
GEMMA = RandomDecoder(
    heads=4, kv_heads=1, head_dim=256, own_hidden=160, ffn=256, layers=3, kind="Q5_0",
    kinds={"v": "Q8_0", "out": "Q4_K", "down": "Q6_K", "embedding": "Q8_0"},
    head_norms=True, norms_after=True, activation="gelu_tanh", embedding_scale=160**0.5, attention_scale=0.05,
    layer_kinds=[LayerKind(window=20), LayerKind(window=70), LayerKind(rotary=1)], rotary_bases=[1e4, 1e6],
)  # fmt: skip
MODELS = {
    "one head a KV head": RandomDecoder(heads=2, kv_heads=2),
    "groups of 3, odd heads": RandomDecoder(heads=9, kv_heads=3, kind="Q8_0"),
    "groups of 5": RandomDecoder(heads=5, kv_heads=1, head_dim=64, kind="Q4_0"),
    "groups of 8": RandomDecoder(heads=8, kv_heads=1, head_dim=32, kind="Q4_K", kinds={"down": "F16"}),
    "groups of 16": RandomDecoder(heads=16, kv_heads=1, head_dim=16, ffn=256, kind="F32"),
    "groups of 24": RandomDecoder(heads=24, kv_heads=1, head_dim=16, kind="Q8_0"),
    "heads of 64": RandomDecoder(heads=3, kv_heads=1, head_dim=64, kind="BF16"),
    "heads of 128": RandomDecoder(heads=3, kv_heads=3, head_dim=128, ffn=224),
    "heads of 256": RandomDecoder(heads=1, kv_heads=1, head_dim=256, ffn=32),
    "a hidden size of 96": RandomDecoder(heads=3, kv_heads=1, head_dim=32),
    "a head of its own": RandomDecoder(own_head=True, kinds={"head": "Q8_0", "embedding": "F16"}),
    "kinds mixed in a product": RandomDecoder(kinds={"v": "Q8_0", "up": "F16"}),
    "many kinds": RandomDecoder(
        heads=8, ffn=256, kind="Q5_K", kinds={"q": "Q4_K", "v": "Q6_K", "gate": "Q5_1", "down": "Q5_0"}
    ),
    "an odd vocabulary": RandomDecoder(vocab_size=77, layers=3),
    "rows in another order": RandomDecoder(reordered=True),
    "a narrow residual": RandomDecoder(heads=4, kv_heads=2, own_hidden=96),
    "a wide residual": RandomDecoder(heads=2, kv_heads=2, own_hidden=160),
    "biases": RandomDecoder(heads=4, kv_heads=2, biases=True),
    "norms of heads": RandomDecoder(heads=4, kv_heads=2, head_norms=True),
    "norms after": RandomDecoder(norms_after=True, layers=3),
    "gelu": RandomDecoder(activation="gelu_tanh"),
    "scales": RandomDecoder(attention_scale=0.3, embedding_scale=7.3),
    "windows": RandomDecoder(heads=6, kv_heads=2, layer_kinds=[LayerKind(window=20)]),
    "two rotary embeddings": RandomDecoder(
        layer_kinds=[LayerKind(rotary=1), LayerKind(rotary=0)], rotary_bases=[100.0, 1e6], attention_factor=1.2
    ),
    "gemma": GEMMA,
}
SOME = ["groups of 3, odd heads", "groups of 24", "heads of 64", "biases", "windows", "gemma"]

ENDS = [70, 71, 72, 80, 81, 113, 114]  # a prompt, two decodes, and chunks that begin anywhere in a tile
LONG, SHORT, FRESH = token_ids(90, seed=1), token_ids(17, seed=2), token_ids(41, seed=3)
LONG_BLOCKS, SHORT_BLOCKS, FRESH_BLOCKS = [5, 3, 9, 0, 20, 21], [1, 39], [30, 2, 31]


def by_kernels(decoder: Decoder, *, bf16: bool, threads: int = 2) -> KernelModel:
    return KernelModel(compiled_kernels(), decoder, bf16=bf16, positions=POSITIONS, tiles=TILES, threads=threads)


def fill_cache(model: KernelModel, byte: int) -> None:
    """Every byte of the KV cache; 0xFF makes NaNs of either precision."""
    structure = model._model
    for memory in (structure.keys, structure.values):
        ctypes.memset(memory, byte, structure.layers * structure.cache_bytes)


def mixed_batch() -> Batch:
    """A decode, a whole prompt, the first chunk of another without logits, and a second decode."""
    chunk = part(FRESH, 0, 20, [32, 33])._replace(outputs=0)
    return Batch.of([
        part(LONG, 89, 90, LONG_BLOCKS), part(FRESH, 0, 41, FRESH_BLOCKS), chunk, part(SHORT, 16, 17, SHORT_BLOCKS),
    ])  # fmt: skip
