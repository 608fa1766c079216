"""The configuration of model servers that genkan starts itself: ``vllm serve`` and ``sglang.launch_server``.

Each setting has one meaning and two spellings; ``genkan.model_servers.command`` has them. Settings that only one of the
two has go into ``arguments``, as its own documentation writes them.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from genkan.config.base import Seconds, Section

ServerKind = Literal["vllm", "sglang"]
#: As the servers have them themselves.
DEFAULT_PORTS: dict[str, int] = {"vllm": 8000, "sglang": 30000}
_LAST_PORT = 65_535
#: What genkan says itself, and what would stand where every user of the machine can read it.
_OURS = frozenset({
    "--api-key", "--admin-api-key", "--config", "--hf-token", "--host", "--model", "--model-path", "--port",
    "--served-model-name", "--uds",
})  # fmt: skip
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z0-9._-]*")

Word = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ServeConfig(Section):
    """A model server beside the gateway, or several alike. They listen on loopback only."""

    model: Word = Field(description="The weights: a name on the Hugging Face hub, or a folder.")
    command: list[Word] = Field(
        default=[],
        max_length=16,
        description="How the program is called, such as `[/opt/vllm/bin/vllm]` in a virtual environment of its own; "
        "left out, `vllm`, or `python3 -m sglang.launch_server`, of the `PATH`.",
    )
    replicas: int = Field(default=1, ge=1, le=32, description="So many servers, each with GPUs and a port of its own.")
    port: int | None = Field(
        default=None, ge=1024, le=_LAST_PORT, description="Of the first, the others follow; left out, 8000 or 30000."
    )
    gpus: list[Annotated[int, Field(ge=0, le=1023)]] | None = Field(
        default=None,
        max_length=1024,
        description="The GPUs to share out, by number; left out, those of `CUDA_VISIBLE_DEVICES`, or from 0 on.",
    )
    tensor_parallel: int = Field(default=1, ge=1, le=1024, description="GPUs that share each layer.")
    pipeline_parallel: int = Field(default=1, ge=1, le=1024, description="Groups of layers, each on GPUs of its own.")
    distributed_executor: Literal["mp", "ray"] | None = Field(
        default=None,
        description="What holds one server's GPUs together; `ray` for several machines. Left out, the server decides.",
    )
    memory_share: float = Field(
        default=0.9,
        ge=0.05,
        le=0.99,
        allow_inf_nan=False,
        description="Of each GPU's memory. 0.85 where others use it.",
    )
    max_sequences: int | None = Field(default=None, ge=1, le=65_536, description="In generation at once.")
    max_model_len: int | None = Field(default=None, ge=16, le=1 << 24, description="The window, in tokens.")
    max_batched_tokens: int | None = Field(
        default=None, ge=16, le=1 << 20, description="Tokens of one step; with SGLang, of one chunk of a prompt."
    )
    block_size: int | None = Field(default=None, ge=1, le=4096, description="Tokens of a KV block, or page.")
    chunked_prefill: bool = Field(default=True, description="Long prompts are computed in chunks, between decodes.")
    prefix_caching: bool = Field(default=True, description="Prompts that begin alike share what was computed.")
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    quantization: Word | None = Field(default=None, description="Such as `fp8` or `awq`; left out, as the weights say.")
    arguments: list[Word] = Field(
        default=[],
        max_length=256,
        description="More of the server's own, as they are. No secrets: others can see them.",
    )
    start_timeout_s: Seconds = Field(
        default=1800.0, description="Until it is well for the first time; then it is killed, and started again."
    )
    stop_timeout_s: Seconds = Field(default=30.0, description="To end by itself; then it is killed.")
    health_interval_s: Seconds = Field(default=5.0, description="Between two times of asking `GET /health`.")
    health_timeout_s: Seconds = Field(default=15.0, description="For its answer.")
    unhealthy_after: int = Field(
        default=4, ge=1, le=1000, description="Bad answers in a row after which it is killed, and started again."
    )
    backoff_s: Seconds = Field(default=1.0, description="Before it is started again; each time in a row twice as long,")
    max_backoff_s: Seconds = Field(default=60.0, description="up to this.")

    @field_validator("arguments")
    @classmethod
    def _are_not_ours(cls, arguments: list[str]) -> list[str]:
        for argument in arguments:
            flag = _FLAG.match(argument)
            if flag is not None and flag.group().replace("_", "-") in _OURS:
                raise ValueError(f"'{flag.group()}' is for genkan to say")
        return arguments

    @model_validator(mode="after")
    def _fits(self) -> "ServeConfig":
        needed = self.replicas * self.gpus_each
        if self.gpus is not None and (len(self.gpus) < needed or len(set(self.gpus)) < len(self.gpus)):
            raise ValueError(f"gpus must be {needed} different numbers or more: replicas by GPUs of each")
        if self.port is not None and self.port + self.replicas - 1 > _LAST_PORT:
            raise ValueError(f"port must leave room for {self.replicas} replicas")
        if self.distributed_executor == "ray" and self.replicas > 1 and self.gpus is None:
            raise ValueError("with ray, which places servers itself, replicas must be 1 or gpus be given")
        return self

    @property
    def gpus_each(self) -> int:
        """GPUs of one server."""
        return self.tensor_parallel * self.pipeline_parallel

    def ports(self, kind: str) -> range:
        """Where servers of that kind listen, one for each replica."""
        first = DEFAULT_PORTS[kind] if self.port is None else self.port
        return range(first, first + self.replicas)

    def base_url(self, kind: str, replica: int = 0) -> str:
        """Where one of them has OpenAI's API."""
        return f"http://127.0.0.1:{self.ports(kind)[replica]}/v1"
