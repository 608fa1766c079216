"""An EngineClient that says what a test wrote down."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, NamedTuple

from genkan.engine.client import Capability
from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.sampling_params import FinishReason, SamplingParams
from genkan.engine.sequence import PrefixOptions, Token
from genkan.engine.statistics import EngineStatistics
from genkan.errors import RequestError

_NO_PREFIX = PrefixOptions()

Step = Token | RequestError | asyncio.Event  # an event is waited for


class Asked(NamedTuple):
    """What the engine was asked for."""

    prompt_ids: list[int]
    params: SamplingParams
    tenant: str
    prefix: PrefixOptions
    n: int
    priority: int


class ScriptedEngine:
    """Says one script after the other, one for each prompt; ``open`` is how many are being said and not closed."""

    def __init__(
        self,
        *scripts: Iterable[Step],
        capabilities: Iterable[Capability] = Capability,
        max_model_len: int = 128,
    ) -> None:
        self.capabilities = frozenset(capabilities)
        self.max_model_len = max_model_len
        self.asked: list[Asked] = []
        self.given = 0  # tokens
        self.open = 0
        self._scripts = list(scripts)

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        tenant: str = "local",
        prefix: PrefixOptions = _NO_PREFIX,
        n: int = 1,
        priority: int = 0,
    ) -> AsyncGenerator[Token, None]:
        self.asked.append(Asked(list(prompt_ids), params, tenant, prefix, n, priority))
        script = self._scripts[len(self.asked) - 1]
        self.open += 1
        try:
            for step in script:
                if isinstance(step, RequestError):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                    continue
                self.given += 1
                yield step
        finally:
            self.open -= 1

    async def prefix_cache_snapshot(self, max_nodes: int = 0) -> dict[str, Any]:
        raise NotImplementedError

    async def purge_prefix_cache(self, namespace_prefix: bytes) -> int:
        raise NotImplementedError

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(blocks=0, free_blocks=0)

    def stop(self) -> None:
        """There is nothing to end."""


def said(
    ids: Sequence[int],
    reason: FinishReason = "stop",
    *,
    answer: int = 0,
    cached_tokens: int = 0,
    logprobs: Sequence[TokenLogprobs] = (),
    prompt_logprobs: Sequence[TokenLogprobs | None] | None = None,
) -> list[Token]:
    """One answer's tokens, each with its log probabilities where there are any."""
    last = len(ids) - 1
    return [
        Token(
            token,
            reason if place == last else None,
            cached_tokens,
            answer,
            logprobs[place] if logprobs else None,
            prompt_logprobs if place == 0 else None,
        )
        for place, token in enumerate(ids)
    ]


def in_turn(*answers: Sequence[Token]) -> list[Token]:
    """A token of each answer in turn, as an engine gives those that it generates together."""
    turns = max(map(len, answers))
    return [answer[turn] for turn in range(turns) for answer in answers if turn < len(answer)]
