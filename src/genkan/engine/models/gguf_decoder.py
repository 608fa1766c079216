"""The families as GGUF files describe them: under llama.cpp's names.

Source: ``llama-model.cpp`` of llama.cpp for what a key means and what is meant without it.
"""

import torch

from genkan.engine.load.blocks import dense
from genkan.engine.load.gguf import GgufFile, GgufTensor
from genkan.engine.models.decoder import DecoderShape, LayerKind, Rotary
from genkan.engine.models.description import MAX_CONTEXT, MAX_HEAD_DIM, MAX_LAYERS, Description
from genkan.engine.models.family import GEMMA3, LLAMA, QWEN2, QWEN3, Family
from genkan.engine.models.rotary import LinearScaling, Scaling, YarnScaling, rotary, yarn_temperature
from genkan.engine.models.stored import Naming, StoredDecoder
from genkan.errors import ModelFileError

FAMILIES = {family.name: family for family in (LLAMA, QWEN2, QWEN3, GEMMA3)}  # Mistral's are llama there
_GEMMA3_27B_LAYERS = 62  # whose scores are scaled by the width of a head in the hidden size, not by its own
_GEMMA3_PERIOD = 6
_ROPE_FACTORS = "rope_freqs.weight"


def gguf_decoder(file: GgufFile) -> StoredDecoder:
    """The model in ``file``.

    Raises ModelFileError for an architecture that the engine does not know, for what is missing or does not fit, and
    for what would change the model's results and cannot be done.
    """
    architecture = file.metadata.get("general.architecture")
    family = FAMILIES.get(architecture) if isinstance(architecture, str) else None
    if family is None:
        raise ModelFileError(
            f"the model's general.architecture is {architecture!r}; the engine runs: {', '.join(sorted(FAMILIES))}"
        )
    tensors = dict(file.tensors)
    factors = tensors.pop(_ROPE_FACTORS, None) if family is LLAMA else None
    return StoredDecoder(
        family,
        _shape(family, Description(file.metadata, f"{family.name}."), tensors, factors, _num_tokens(file)),
        tensors,
        file.digest,
        naming=Naming(),
        tied="output.weight" not in tensors,
        interleaved=family is LLAMA,
    )


def _shape(
    family: Family, read: Description, tensors: dict[str, GgufTensor], factors: GgufTensor | None, tokens: int
) -> DecoderShape:
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        read.must_be(name, 0)
    heads, hidden = read.count("attention.head_count"), read.count("embedding_length")
    kv_heads = read.count("attention.head_count_kv", default=heads)
    head_dim = read.count("attention.key_length", default=hidden // heads, most=MAX_HEAD_DIM)
    if heads % kv_heads or head_dim % 2 or ("attention.key_length" not in read and head_dim * heads != hidden):
        raise ModelFileError(
            f"{heads} attention heads and {kv_heads} KV heads of {head_dim} do not make a hidden size of {hidden}"
        )
    for name in ("attention.value_length", "rope.dimension_count"):
        if (other := read.count(name, default=head_dim)) != head_dim:
            raise ModelFileError(f"the model's {name} is {other}, and its heads are of {head_dim}: they must be equal")
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError("the model file lacks the tensor token_embd.weight")
    if tokens > embedding.shape[0]:
        raise ModelFileError(f"the model file has {tokens} tokens and embeddings of {embedding.shape[0]}")
    layers = read.count("block_count", most=MAX_LAYERS)
    scaled_by = hidden // heads if family is GEMMA3 and layers == _GEMMA3_27B_LAYERS else head_dim
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=read.count("feed_forward_length"),
        vocab_size=embedding.shape[0],
        context_length=read.count("context_length", most=MAX_CONTEXT),
        norm_epsilon=read.number("attention.layer_norm_rms_epsilon"),
        attention_scale=scaled_by**-0.5,
        kinds=_kinds(family, read, layers),
        rotaries=_rotaries(family, read, head_dim, factors),
        embedding_scale=hidden**0.5 if family.is_gemma else 1.0,
        activation=family.activation,
    )


def _num_tokens(file: GgufFile) -> int:
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list) else 0


def _kinds(family: Family, read: Description, layers: int) -> tuple[LayerKind, ...]:
    if family is GEMMA3:
        local, all_tokens = LayerKind(read.count("attention.sliding_window"), 1), LayerKind()
        period = read.given("attention.sliding_window_pattern")
        if isinstance(period, list):
            if len(period) != layers:
                raise ModelFileError(f"the model has {layers} layers and a window pattern for {len(period)}")
            return tuple(local if is_local else all_tokens for is_local in period)
        period = read.count("attention.sliding_window_pattern", default=_GEMMA3_PERIOD)
        return tuple(local if (index + 1) % period else all_tokens for index in range(layers))
    # llama.cpp itself has no windows for Qwen, and a file's key may say what its model does not use.
    windowed = family is LLAMA and read.given("attention.sliding_window")
    return (LayerKind(read.count("attention.sliding_window")) if windowed else LayerKind(),) * layers


def _rotaries(family: Family, read: Description, head_dim: int, factors: GgufTensor | None) -> tuple[Rotary, ...]:
    base = read.number("rope.freq_base", default=1_000_000.0 if family is GEMMA3 else 10_000.0)
    its_rotary = rotary(base, head_dim, _scaling(read))
    if factors is not None:
        its_rotary = Rotary(its_rotary.frequencies / _checked(factors, head_dim), its_rotary.attention_factor)
    if family is not GEMMA3:
        return (its_rotary,)
    return its_rotary, rotary(read.number("rope.freq_base_swa", default=10_000.0), head_dim)


def _scaling(read: Description) -> Scaling | None:
    old = read.given("rope.scale_linear")
    factor_name = "rope.scaling.factor" if old is None else "rope.scale_linear"
    kind = read.given("rope.scaling.type") or ("linear" if factor_name in read else "none")
    match kind:
        case "none":
            return None
        case "linear":
            return LinearScaling(read.number(factor_name))
        case "yarn":
            for name, known in (("log_multiplier", (0,)), ("ext_factor", (1, -1)), ("attn_factor", (1,))):
                read.must_be(f"rope.scaling.yarn_{name}", *known)
            factor = read.number(factor_name)
            return YarnScaling(
                factor=factor,
                original_context=read.count(
                    "rope.scaling.original_context_length", default=read.count("context_length", most=MAX_CONTEXT)
                ),
                beta_fast=read.number("rope.scaling.yarn_beta_fast", default=32.0),
                beta_slow=read.number("rope.scaling.yarn_beta_slow", default=1.0),
                attention_factor=read.number("rope.scaling.attn_factor", default=1.0) * yarn_temperature(factor),
            )
    raise ModelFileError(f"the model's rope.scaling.type is {kind!r}; the engine knows: linear, none, yarn")


def _checked(factors: GgufTensor, head_dim: int) -> torch.Tensor:
    if factors.shape != (head_dim // 2,):
        raise ModelFileError(f"the tensor {_ROPE_FACTORS} is {factors.shape}; the metadata promise {(head_dim // 2,)}")
    values = dense(factors)
    if not (torch.isfinite(values) & (values > 0)).all():
        raise ModelFileError(f"the tensor {_ROPE_FACTORS} holds what is no positive number")
    return values
