"""What is said to vLLM and what it says back, in our words and in its own: vLLM 0.32, ``vllm/sampling_params.py``,
``vllm/outputs.py`` and ``vllm/engine/arg_utils.py``.
"""

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ids
from pathlib import Path
from typing import Any, Protocol

from genkan.engine.client import Capability
from genkan.engine.config import EngineConfig
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.sampling_params import MAX_TOP_LOGPROBS, FinishReason, SamplingParams
from genkan.engine.sequence import Token
from genkan.errors import EngineFailed

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_GREEDY_BELOW = 1e-5
_SEEDS = 1 << 63  # answers get the seed plus their number, which has to stay within 64 bits; and -1 is none to vLLM
#: Ours, and vLLM's name for each. Only what the operator has set is passed on: vLLM's defaults suit its machines.
_SETTINGS = {
    "max_model_len": "max_model_len",
    "block_size": "block_size",
    "max_sequences": "max_num_seqs",
    "max_batched_tokens": "max_num_batched_tokens",
    "chunked_prefill": "enable_chunked_prefill",
    "kv_memory_bytes": "kv_cache_memory_bytes",
}
_CAPABILITIES = frozenset(
    {
        Capability.TOP_K,
        Capability.MIN_P,
        Capability.SEED,
        Capability.IGNORE_EOS,
        Capability.MIN_TOKENS,
        Capability.REPETITION_PENALTY,
        Capability.PRESENCE_PENALTY,
        Capability.FREQUENCY_PENALTY,
        Capability.LOGIT_BIAS,
        Capability.LOGPROBS,
        Capability.PROMPT_LOGPROBS,
        Capability.SEVERAL_ANSWERS,
        Capability.JSON,
        Capability.REGEX,
        Capability.CHOICE,
        Capability.CACHE_SALT,
        Capability.PREFIX_CACHE_SWITCH,
    }
)


class Logprob(Protocol):
    @property
    def logprob(self) -> float: ...


class CompletionOutput(Protocol):
    """The new tokens of one answer."""

    @property
    def index(self) -> int: ...
    @property
    def token_ids(self) -> Ids[int]: ...
    @property
    def logprobs(self) -> Ids[Mapping[int, Logprob]] | None: ...
    @property
    def finish_reason(self) -> str | None: ...


class RequestOutput(Protocol):
    """What came of a request since the last one."""

    @property
    def finished(self) -> bool: ...
    @property
    def num_cached_tokens(self) -> int | None: ...
    @property
    def prompt_logprobs(self) -> Ids[Mapping[int, Logprob] | None] | None: ...
    @property
    def outputs(self) -> Ids[CompletionOutput]: ...


def engine_args(config: EngineConfig, model: Path) -> dict[str, Any]:
    """Of ``AsyncEngineArgs``; those in ``config.vllm`` win."""
    given = {theirs: getattr(config, ours) for ours, theirs in _SETTINGS.items() if ours in config.model_fields_set}
    return {
        "model": str(model),
        "dtype": "float32" if config.profile == "exact" else config.dtype,
        "enable_prefix_caching": config.prefix_cache,
        "scheduling_policy": "priority",
        "max_logprobs": MAX_TOP_LOGPROBS,
        # The same library as ours; blanks between fields would let a weak model go on for ever.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "disable_log_stats": True,
        "enable_log_requests": False,
        **given,
        **config.vllm,
    }


def capabilities(arguments: Mapping[str, Any]) -> frozenset[Capability]:
    """What vLLM can do with these of ``engine_args``.

    Its prefix cache is its own: it cannot be looked into, purged by tenant, pinned or given a time to live. A grammar
    in llguidance's words needs llguidance, and without its priority scheduler it drops priorities.
    """
    able = set(_CAPABILITIES)
    if arguments["structured_outputs_config"].get("backend") == "guidance":
        able.add(Capability.GRAMMAR)
    if arguments["scheduling_policy"] == "priority":
        able.add(Capability.PRIORITY)
    return frozenset(able)


def sampling_arguments(params: SamplingParams, n: int) -> dict[str, Any]:
    """Of vLLM's ``SamplingParams``, without ``structured_outputs`` and ``output_kind``.

    ``ignore_eos`` stands for the stop ids that vLLM finds itself: those of ``params`` are all there are.
    """
    several_greedy = (
        n > 1 and params.temperature < _GREEDY_BELOW
    )  # which vLLM refuses; the likeliest of one is the same
    ends = not params.ignore_eos or params.grammar is not None  # a grammar ends by a stop id, and at nothing else
    return {
        "n": n,
        "max_tokens": params.max_tokens,
        "min_tokens": max(params.min_tokens - params.continued, 0),
        "stop_token_ids": sorted(params.stop_ids) if ends else [],
        "ignore_eos": True,
        "temperature": 1.0 if several_greedy else params.temperature,
        "top_p": params.top_p,
        "top_k": 1 if several_greedy else params.top_k or 0,
        "min_p": params.min_p,
        "seed": None if params.seed is None else params.seed % _SEEDS,
        "repetition_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "logit_bias": dict(params.logit_bias) or None,
        "logprobs": params.logprobs,
        "prompt_logprobs": params.prompt_logprobs,
        "detokenize": False,
    }


def structured_outputs(grammar: GrammarSpec) -> dict[str, Any]:
    """Of vLLM's ``StructuredOutputsParams``."""
    match grammar.kind:
        case "json_object":
            return {"json_object": True}
        case "json_schema":
            return {"json": grammar.text}
        case "regex":
            return {"regex": grammar.text}
        case "choice":
            return {"choice": json.loads(grammar.text)}
        case "lark":
            return {"grammar": grammar.text}


def tokens_of(
    output: RequestOutput, prompt_ids: Ids[int], params: SamplingParams, cached_tokens: int
) -> Iterator[Token]:
    """The new tokens of all answers. Raises EngineFailed for an answer that vLLM gave up."""
    prompt = prompt_logprobs(output, prompt_ids, params)
    for answer in output.outputs:
        reason = _FINISH_REASONS.get(answer.finish_reason or "")
        if answer.finish_reason is not None and (reason is None or not answer.token_ids):
            raise EngineFailed("The engine failed on this request.")
        last = len(answer.token_ids) - 1
        for place, token in enumerate(answer.token_ids):
            logprobs = None
            if answer.logprobs is not None:
                logprobs = _logprobs(answer.logprobs[place], token, params.logprobs or 0)
            ends = reason if place == last else None
            first = prompt if answer.index == 0 and place == 0 else None
            yield Token(token, ends, cached_tokens, answer.index, logprobs, first)


def prompt_logprobs(
    output: RequestOutput, prompt_ids: Ids[int], params: SamplingParams
) -> list[TokenLogprobs | None] | None:
    """Those of the prompt, if this output has them: the first of each answer does."""
    if not output.prompt_logprobs:
        return None
    top = params.prompt_logprobs or 0
    return [
        None if each is None else _logprobs(each, token, top)
        for each, token in zip(output.prompt_logprobs, prompt_ids, strict=True)
    ]


def _logprobs(of: Mapping[int, Logprob], token: int, top: int) -> TokenLogprobs:
    ranked = sorted(((each, of[each].logprob) for each in of), key=lambda pair: (-pair[1], pair[0]))
    return TokenLogprobs(of[token].logprob, tuple(ranked[:top]))
