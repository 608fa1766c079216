"""An engine that costs nothing, so that what the benchmarks count can be known beforehand."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import LOCAL_TENANT, PrefixOptions, Token

PAGE = 16
NO_OPTIONS = PrefixOptions()


class Call(NamedTuple):
    """One request as the engine got it, and how many tokens it had generated for all requests by then."""

    prompt: list[int]
    max_tokens: int
    namespace: bytes
    generated_before: int


class CountableEngine:
    """Answers each request with 100, 101, … and finds in its cache every whole page of a prompt it has seen.

    As in the engine, what was generated is kept too, but for the last token, and a prompt is never found whole.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._running = 0
        self._generated = 0
        self._pages: set[tuple[bytes, tuple[int, ...]]] = set()

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        tenant: str = LOCAL_TENANT,
        prefix: PrefixOptions = NO_OPTIONS,
        n: int = 1,
        priority: int = 0,
    ) -> AsyncGenerator[Token, None]:
        """``n`` and ``priority`` are not looked at."""
        prompt = list(prompt_ids)
        self.calls.append(Call(prompt, params.max_tokens, prefix.namespace, self._generated))
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        cached = self._cached(prefix.namespace, prompt)
        answer = list(range(100, 100 + params.max_tokens))
        for number, token in enumerate(answer, start=1):
            await asyncio.sleep(0)
            self._generated += 1
            if number == params.max_tokens:
                self._keep(prefix.namespace, prompt + answer[:-1])
                self._running -= 1
            yield Token(token, "length" if number == params.max_tokens else None, cached)

    def _cached(self, namespace: bytes, prompt: list[int]) -> int:
        found = 0
        while found + PAGE < len(prompt) and (namespace, tuple(prompt[: found + PAGE])) in self._pages:
            found += PAGE
        return found

    def _keep(self, namespace: bytes, tokens: list[int]) -> None:
        self._pages.update((namespace, tuple(tokens[:end])) for end in range(PAGE, len(tokens) + 1, PAGE))
