"""The families as a ``config.json`` of transformers describes them, in the forms of its versions 4 and 5.

Source: the configuration classes of transformers, for what is meant where a file says nothing.
"""

from dataclasses import dataclass

from genkan.engine.load.folder import ModelFolder
from genkan.engine.load.gguf import GgufTensor
from genkan.engine.models.decoder import DecoderShape, LayerKind, Rotary
from genkan.engine.models.description import MAX_CONTEXT, MAX_HEAD_DIM, MAX_LAYERS, Description
from genkan.engine.models.family import GEMMA3, LLAMA, MISTRAL, QWEN2, QWEN3, Family
from genkan.engine.models.folder_rotary import rotary_of
from genkan.engine.models.stored import Naming, StoredDecoder
from genkan.engine.models.text_part import TEXT_PARTS, text_part
from genkan.errors import ModelFileError

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NAMES = _NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_LEFT_OVER = ".rotary_emb.inv_freq"  # of old versions; computed
_LAYER_TYPES = frozenset({"sliding_attention", "full_attention"})
_GEMMA3_PERIOD = 6
_QWEN_FIRST_WINDOWED = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is meant where a family's ``config.json`` says nothing; None: what the numbers of heads imply."""

    family: Family
    head_dim: int | None = None
    kv_heads: int | None = None
    window: int | None = None
    tied: bool = False


_KNOWN = {
    "LlamaForCausalLM": _Known(family=LLAMA),
    "MistralForCausalLM": _Known(family=MISTRAL, kv_heads=8, window=4096),
    "Qwen2ForCausalLM": _Known(family=QWEN2, kv_heads=32, window=4096),
    "Qwen3ForCausalLM": _Known(family=QWEN3, kv_heads=32, head_dim=128, window=4096),
    "Gemma3ForCausalLM": _Known(family=GEMMA3, kv_heads=4, head_dim=256, window=4096, tied=True),
}


def architecture_of(config: dict[str, object]) -> str:
    """The class of transformers that ``config`` is for. Raises ModelFileError where it names none, or several."""
    match config.get("architectures"):
        case [str(architecture)]:
            return architecture
        case said:
            raise ModelFileError(f"config.json must name one architecture; its architectures are {said!r}")


def is_known(architecture: str) -> bool:
    """Whether the engine has this architecture itself."""
    return architecture in _KNOWN or architecture in TEXT_PARTS


def folder_decoder(folder: ModelFolder) -> StoredDecoder:
    """The model in ``folder``; of a multimodal one its text part.

    Raises ModelFileError for an architecture that the engine does not know, for what is missing or does not fit, and
    for what would change the model's results and cannot be done.
    """
    architecture = architecture_of(folder.config)
    if architecture in TEXT_PARTS:
        folder, architecture = text_part(folder, architecture), TEXT_PARTS[architecture]
    known = _KNOWN.get(architecture)
    if known is None:
        raise ModelFileError(f"the model's architecture is {architecture}; the engine runs: {', '.join(_KNOWN)}")
    read = Description(folder.config)
    if "quantization_config" in read:
        raise ModelFileError("the model's weights are quantised by another library (quantization_config)")
    is_gemma = known.family.is_gemma
    return StoredDecoder(
        known.family,
        _shape(known, read),
        _used(folder, tied := read.flag("tie_word_embeddings", default=known.tied)),
        folder.digest,
        naming=Naming("model.layers", _GEMMA_NAMES if is_gemma else _NAMES),
        tied=tied,
        norm_offset=1.0 if is_gemma else 0.0,
    )


def _used(folder: ModelFolder, tied: bool) -> dict[str, GgufTensor]:
    return {
        name: tensor
        for name, tensor in folder.tensors.items()
        if not (name.endswith(_LEFT_OVER) or (tied and name == "lm_head.weight"))
    }


def _shape(known: _Known, read: Description) -> DecoderShape:
    family = known.family
    _refuse_variants(family, read)
    heads, hidden = read.count("num_attention_heads"), read.count("hidden_size")
    kv_heads = read.count("num_key_value_heads", default=known.kv_heads or heads)
    head_dim = read.count("head_dim", default=known.head_dim or hidden // heads, most=MAX_HEAD_DIM)
    if heads % kv_heads or head_dim % 2:
        raise ModelFileError(f"{heads} attention heads do not share {kv_heads} KV heads of {head_dim} evenly")
    layers = read.count("num_hidden_layers", most=MAX_LAYERS)
    scaled_by = read.number("query_pre_attn_scalar", default=256.0) if family.is_gemma else head_dim
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=read.count("intermediate_size"),
        vocab_size=read.count("vocab_size"),
        context_length=read.count("max_position_embeddings", most=MAX_CONTEXT),
        norm_epsilon=read.number("rms_norm_eps", default=1e-6),
        attention_scale=scaled_by**-0.5,
        kinds=_kinds(known, read, layers),
        rotaries=_rotaries(family, read, head_dim),
        embedding_scale=hidden**0.5 if family.is_gemma else 1.0,
        activation=family.activation,
    )


def _refuse_variants(family: Family, read: Description) -> None:
    """What a configuration may say of its family and the engine does not do."""
    for name in ("mlp_bias", "use_bidirectional_attention", *(() if family.qkv_bias else ("attention_bias",))):
        read.must_be(name, False)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if name in read:
            raise ModelFileError(f"the model has {name}, which the engine does not do")
    if family.is_gemma:
        read.must_be("hidden_activation", "gelu_pytorch_tanh")
    else:
        read.must_be("hidden_act", "silu")


def _kinds(known: _Known, read: Description, layers: int) -> tuple[LayerKind, ...]:
    if known.family is LLAMA:
        return (LayerKind(),) * layers
    if known.family is MISTRAL:  # here null is none, and nothing is the default
        said = read.has("sliding_window") and "sliding_window" not in read
        return (LayerKind(None if said else read.count("sliding_window", default=known.window)),) * layers
    local_rotary = 1 if known.family.is_gemma else 0
    types = _layer_types(known.family, read, layers)
    if "sliding_attention" not in types:
        return (LayerKind(),) * layers
    local = LayerKind(read.count("sliding_window", default=known.window), local_rotary)
    return tuple(local if kind == "sliding_attention" else LayerKind() for kind in types)


def _layer_types(family: Family, read: Description, layers: int) -> list[str]:
    types = read.given("layer_types")
    if types is None:
        if family.is_gemma:
            period = read.count("sliding_window_pattern", default=_GEMMA3_PERIOD)
            is_local = [bool((index + 1) % period) for index in range(layers)]
        else:
            first = read.given("max_window_layers")  # which may be 0
            if first is None:
                first = _QWEN_FIRST_WINDOWED
            if type(first) is not int:
                raise ModelFileError(f"the model's max_window_layers is no number: {first!r}")
            is_local = [read.flag("use_sliding_window") and index >= first for index in range(layers)]
        return ["sliding_attention" if local else "full_attention" for local in is_local]
    if not isinstance(types, list) or len(types) != layers or not {*map(str, types)} <= _LAYER_TYPES:
        raise ModelFileError(f"the model's layer_types must say for each of {layers} layers how far it sees: {types!r}")
    if not family.is_gemma and "sliding_attention" in types:
        read.must_be("use_sliding_window", True)
    return types


def _rotaries(family: Family, read: Description, head_dim: int) -> tuple[Rotary, ...]:
    if not family.is_gemma:
        return (rotary_of(read, head_dim),)
    return (
        rotary_of(read, head_dim, layer_type="full_attention", base=("rope_theta", 1_000_000.0)),
        rotary_of(
            read, head_dim, layer_type="sliding_attention", base=("rope_local_base_freq", 10_000.0), scaled=False
        ),
    )
