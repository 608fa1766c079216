"""One request inside the engine: its tokens, where their KV lies, and how to choose the next."""

from array import array
from collections.abc import Sequence as Ids
from dataclasses import dataclass
from typing import NamedTuple

from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.prefix_page import Page
from genkan.engine.sampling_params import FinishReason, SamplingParams

LOCAL_TENANT = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixOptions:
    """How one request uses the prefix cache.

    Only requests of the same ``namespace`` find each other's pages. Without ``use`` the prompt is neither looked for
    nor kept. ``ttl_s`` bounds how long unused pages stay; ``pin`` keeps them from eviction, within a budget.
    """

    namespace: bytes = b""
    use: bool = True
    ttl_s: float | None = None
    pin: bool = False


class Token(NamedTuple):
    """One generated token; the last one of a sequence carries why it is the last.

    A stop token is generated and counted like any other, with finish reason ``stop``. ``cached_tokens``: how many of
    the prompt were found in the prefix cache when the request first ran. ``answer``: which one, where a prompt
    gets several. ``prompt_logprobs``, where asked for, come with the first token of answer 0: an entry for each
    token of the prompt, None for the first.
    """

    id: int
    finish_reason: FinishReason | None
    cached_tokens: int
    answer: int = 0
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: "Ids[TokenLogprobs | None] | None" = None


class HostCopy(NamedTuple):
    """A preempted sequence's KV in the host's memory: that of its first ``num_computed`` tokens, from KV block
    ``first`` on; the blocks before it are pages that others held when it was preempted.
    """

    first: int
    blocks: "array[int]"
    num_computed: int


class Sequence:
    """What the scheduler knows of one answer to one request. Touched by the engine's thread alone, once submitted.

    ``tokens`` are the prompt and what was generated. The KV of the first ``num_computed`` lies in ``blocks``, in
    order; of these the first ``page.depth`` belong to the prefix cache, where ``page`` holds a lock, and the others to
    the sequence. A sequence that waits has no blocks and no page, and perhaps a copy on the host.
    """

    __slots__ = (
        "answer",
        "blocks",
        "cached_tokens",
        "host_copy",
        "is_query",
        "num_computed",
        "num_preempted",
        "num_prompt",
        "num_unscored",
        "overtaken",
        "page",
        "params",
        "prefix",
        "priority",
        "prompt_logprobs",
        "submitted_s",
        "tenant",
        "token_at_s",
        "tokens",
    )

    def __init__(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str = LOCAL_TENANT,
        prefix: PrefixOptions = PrefixOptions(),
        answer: int = 0,
        priority: int = 0,
        is_query: bool = True,
        now_s: float = 0.0,
    ) -> None:
        """``answer``: which of several to the same prompt. ``is_query``: whether the prefix cache counts it as one that
        looked for its prompt.
        """
        self.tokens = array("i", prompt_ids)
        self.num_prompt = len(self.tokens)
        self.params = params
        self.tenant = tenant
        self.prefix = prefix
        self.answer = answer
        self.priority = priority
        self.is_query = is_query
        self.num_computed = 0
        self.blocks = array("i")
        self.page: Page | None = None
        self.host_copy: HostCopy | None = None
        self.cached_tokens: int | None = None  # until it is first admitted
        self.num_preempted = 0
        self.overtaken = 0  # how often another of its tenant, submitted later, was admitted before it
        self.submitted_s = now_s
        self.token_at_s: float | None = None  # when the newest token was drawn
        #: Of the prompt's tokens those whose log probability is wanted and not known yet: so many of its last.
        self.num_unscored = 0 if params.prompt_logprobs is None or answer else self.num_prompt - 1
        self.prompt_logprobs: list[TokenLogprobs] = []

    @property
    def num_to_compute(self) -> int:
        """Tokens without KV; 1 while it decodes, and never 0 while it waits or runs."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def position(self) -> int:
        """The next token's place in the answer, of which the prompt may hold a beginning."""
        return self.num_generated + self.params.continued

    @property
    def max_tokens(self) -> int:
        """The longest that prompt and answer together can become."""
        return self.num_prompt + self.params.max_tokens

    @property
    def num_scored(self) -> int:
        """Tokens that need not be computed for the sake of the logits after them."""
        return self.num_prompt - 1 - self.num_unscored

    @property
    def to_be_found(self) -> "array[int]":
        """What to look for in the prefix cache; the last token of it is never found."""
        return self.tokens[: self.num_scored + 1] if self.num_unscored else self.tokens

    def finish_reason(self, *, closed: bool = False) -> FinishReason | None:
        """Why the newest token is the last, if it is. ``closed``: its grammar allows no other after it."""
        if closed or (not self.params.ignore_eos and self.tokens[-1] in self.params.stop_ids):
            return "stop"
        return "length" if self.num_generated >= self.params.max_tokens else None
