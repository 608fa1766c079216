"""The surface of vLLM 0.32 that ``engine/vllm_engine.py`` uses, with a model of its own: it counts up from the prompt.

vLLM is large, foreign and mostly absent where tests run. The names, fields, defaults and errors here are those of its
``sampling_params.py``, ``outputs.py``, ``exceptions.py``, ``engine/arg_utils.py`` and ``v1/engine/async_llm.py``; a
field that it does not have is a TypeError, as there.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

WINDOW = 64
VOCAB = 1000


class VLLMClientError(Exception):
    pass


class VLLMValidationError(VLLMClientError):
    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class GracefulHTTPError(Exception):
    pass


class EngineGenerateError(Exception):
    pass


class EngineDeadError(Exception):
    pass


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    json: str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None

    def __post_init__(self) -> None:
        if self.json == "not a schema":
            raise VLLMValidationError("Grammar error: no schema")


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[int, float] | None = None

    def __post_init__(self) -> None:
        if self.temperature > 2:
            raise VLLMValidationError("temperature must be in [0, 2].", parameter="temperature")
        if self.temperature < 1e-5 and self.n > 1:
            raise VLLMValidationError("n must be 1 when using greedy sampling.")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]
    finished: bool = False
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    num_cached_tokens: int | None = None


@dataclass
class AsyncEngineArgs:
    model: str
    dtype: str = "auto"
    enable_prefix_caching: bool | None = None
    scheduling_policy: str = "fcfs"
    max_logprobs: int = 20
    structured_outputs_config: dict[str, Any] = field(default_factory=dict)
    disable_log_stats: bool = False
    enable_log_requests: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    enable_chunked_prefill: bool | None = None
    kv_cache_memory_bytes: int | None = None
    enforce_eager: bool = False
    tensor_parallel_size: int = 1


class AsyncLLM:
    """Answers a prompt that ends with the id x by x + 1, x + 2 and so on, each answer n thousand on: one a turn.

    ``script`` replaces that: each item is an output, or an error to raise. ``held`` makes it wait where it is unset.
    """

    made: ClassVar["list[AsyncLLM]"] = []

    def __init__(self, args: AsyncEngineArgs) -> None:
        if args.model.endswith("broken"):
            raise RuntimeError("Cannot load it.")
        self.args = args
        self.model_config = SimpleNamespace(max_model_len=args.max_model_len or WINDOW, get_vocab_size=lambda: VOCAB)
        self.asked: list[SimpleNamespace] = []
        self.aborted: list[str] = []
        self.script: list[RequestOutput | Exception] | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.is_down = False

    @classmethod
    def from_engine_args(cls, args: AsyncEngineArgs) -> "AsyncLLM":
        made = cls(args)
        cls.made.append(made)
        return made

    async def generate(
        self, prompt: dict[str, Any], sampling_params: SamplingParams, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[RequestOutput, None]:
        self.asked.append(SimpleNamespace(prompt=prompt, params=sampling_params, id=request_id, priority=priority))
        finished = False
        try:
            for output in self.script or self._counting(prompt["prompt_token_ids"], sampling_params):
                await self.go.wait()
                await asyncio.sleep(0)
                if isinstance(output, Exception):
                    raise output
                finished = output.finished
                yield output
        except (asyncio.CancelledError, GeneratorExit):
            if not finished:
                self.aborted.append(request_id)
            raise

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_down = True

    def _counting(self, prompt: list[int], params: SamplingParams) -> list[RequestOutput]:
        """All answers go on at once; the last to end finishes the request."""
        outputs = []
        ended: set[int] = set()
        assert params.max_tokens is not None
        for step in range(params.max_tokens):
            for answer in sorted(set(range(params.n)) - ended):
                token = prompt[-1] + 1 + step + 100 * answer
                stops = token in (params.stop_token_ids or [])
                reason = "stop" if stops else "length" if step + 1 == params.max_tokens else None
                if reason:
                    ended.add(answer)
                completion = CompletionOutput(answer, [token], None, reason)
                outputs.append(RequestOutput([completion], len(ended) == params.n, None, 16 if step == 0 else None))
        return outputs


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it what ``import vllm`` finds."""
    here = sys.modules[__name__]
    homes: dict[str, tuple[Any, ...]] = {
        "vllm": (),
        "vllm.sampling_params": (SamplingParams, StructuredOutputsParams, RequestOutputKind),
        "vllm.exceptions": (VLLMClientError, GracefulHTTPError),
        "vllm.engine": (),
        "vllm.engine.arg_utils": (AsyncEngineArgs,),
        "vllm.v1": (),
        "vllm.v1.engine": (),
        "vllm.v1.engine.async_llm": (AsyncLLM,),
        "vllm.v1.engine.exceptions": (EngineDeadError,),
    }
    for name, contents in homes.items():
        module = ModuleType(name)
        for each in contents:
            setattr(module, each.__name__, getattr(here, each.__name__))
        monkeypatch.setitem(sys.modules, name, module)
