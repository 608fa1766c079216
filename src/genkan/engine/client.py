"""What a service needs of an engine, be it ours or another's in the same process."""

from collections.abc import AsyncGenerator
from collections.abc import Sequence as Ids
from enum import Enum
from typing import Any, Protocol

from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Token
from genkan.engine.statistics import EngineStatistics


class Capability(Enum):
    """What an engine may or may not be able to do; the value is how a request asks for it."""

    TOP_K = "top_k"
    MIN_P = "min_p"
    SEED = "seed"
    IGNORE_EOS = "ignore_eos"
    MIN_TOKENS = "min_tokens"
    REPETITION_PENALTY = "repetition_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    LOGIT_BIAS = "logit_bias"
    LOGPROBS = "logprobs"
    PROMPT_LOGPROBS = "echo with logprobs"
    SEVERAL_ANSWERS = "n"
    PRIORITY = "genkan.priority"
    JSON = "response_format"
    REGEX = "structured_outputs.regex"
    CHOICE = "structured_outputs.choice"
    GRAMMAR = "structured_outputs.grammar"
    CONTINUED_RULES = "continue_text with response_format"
    CACHE_SALT = "cache_salt"
    PREFIX_CACHE_SWITCH = "genkan.prefix_cache"
    PREFIX_TTL = "genkan.prefix_ttl_s"
    PREFIX_PIN = "genkan.prefix_pin"
    PREFIX_CACHE_VIEW = "GET /admin/prefix-cache"
    PREFIX_CACHE_PURGE = "DELETE /admin/prefix-cache"


class EngineClient(Protocol):
    """Generates tokens for many requests at once. All methods are for the event loop, and return at once or await."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def max_model_len(self) -> int:
        """The longest that prompt and answer together may be, in tokens."""

    def generate(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str = ...,
        prefix: PrefixOptions = ...,
        n: int = 1,
        priority: int = 0,
    ) -> AsyncGenerator[Token, None]:
        """The tokens of ``n`` answers to ``prompt_ids``, each as soon as it is there, by ``Token.answer``.

        The prompt is not empty, and its ids are below the model's vocabulary size. The last token of each answer has a
        finish reason, and after the last of the last answer the generator ends. Closing it cancels what is left. A
        higher ``priority`` goes first among requests of the same tenant.

        Raises, before the first token, ContextTooLong, EngineOverloaded, and InvalidRequest for a grammar that cannot
        be; ReaderTooSlow for a reader that lets too much pile up; EngineFailed and EngineUnavailable at any time.
        """

    async def prefix_cache_snapshot(self, max_nodes: int = ...) -> dict[str, Any]:
        """The prefix cache as it is. Raises UnsupportedOption where it cannot be seen."""

    async def purge_prefix_cache(self, namespace_prefix: bytes) -> int:
        """Drop the pages of the namespaces that begin so; how many. Raises UnsupportedOption where that cannot be."""

    def statistics(self) -> EngineStatistics: ...

    def stop(self) -> None:
        """Fail what runs and waits, and end. May block for seconds."""
