"""The families that the engine knows, and how a file tells their members apart from each other."""

from dataclasses import dataclass

from genkan.engine.models.decoder import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What all models of a family have in common.

    ``qkv_bias``: the projections of queries, keys and values have biases. ``head_norms``: queries and keys have norms
    of their own. ``after_norms``: attention and feed-forward have norms after them too. ``is_gemma``: norm weights
    count from 1, embeddings are scaled, and most layers look back a window with a rotary embedding of their own.
    """

    name: str
    qkv_bias: bool = False
    head_norms: bool = False
    after_norms: bool = False
    is_gemma: bool = False

    @property
    def activation(self) -> Activation:
        return "gelu_tanh" if self.is_gemma else "silu"

    def layer_parts(self) -> list[str]:
        """What a layer's tensors are called in a GGUF file, after its number."""
        names = [
            "attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
            "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight",
        ]  # fmt: skip
        if self.qkv_bias:
            names += ["attn_q.bias", "attn_k.bias", "attn_v.bias"]
        if self.head_norms:
            names += ["attn_q_norm.weight", "attn_k_norm.weight"]
        if self.after_norms:
            names += ["post_attention_norm.weight", "post_ffw_norm.weight"]
        return names


LLAMA = Family(name="llama")
MISTRAL = Family(name="mistral")
QWEN2 = Family(name="qwen2", qkv_bias=True)
QWEN3 = Family(name="qwen3", head_norms=True)
GEMMA3 = Family(name="gemma3", head_norms=True, after_norms=True, is_gemma=True)
