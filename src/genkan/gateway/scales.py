"""How many tokens the prompts have that one request may be cut to: counted while somebody can, else estimated."""

import asyncio
import math
from collections.abc import Sequence

from genkan.gateway.deployment import Deployment
from genkan.wire.chat import ChatRequest

MOST_COUNTS = 8
_HARDLY_S = 0.01  # too little to ask anybody
#: What an estimate is short of now and then. Before anything was counted it is of a text of any language.
_MARGIN = 1.2


class Scales:
    """Weighs prompts for one model. ``is_exact`` as long as an upstream did, and was asked no more than it may be.

    ``late`` is who was asked, or would have been, when the time was over.
    """

    __slots__ = ("_counters", "_deadline_s", "_left", "_loop", "_per_guess", "is_exact", "late")

    def __init__(self, counters: Sequence[Deployment], limit_s: float) -> None:
        """``counters`` are asked in order, until one can say; all of them for ``limit_s`` seconds together."""
        self._counters = list(counters)
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + limit_s
        self._left = MOST_COUNTS
        self._per_guess = 1.0  # tokens that were counted for each that was guessed
        self.is_exact = True
        self.late: Deployment | None = None

    def likely(self, guess: int) -> float:
        """What `weigh` should say of a prompt that is guessed at so many tokens."""
        return guess * self._per_guess * (1.0 if self.is_exact else _MARGIN)

    async def weigh(self, request: ChatRequest, guess: int) -> int:
        """The tokens of its prompt; where nobody counts, what it hardly exceeds. Raises nothing of the upstreams'."""
        while self._counters and self._left:
            deployment = self._counters[0]
            if (left_s := self._left_s()) < _HARDLY_S:
                self.late = deployment
                break
            self._left -= 1
            tokens = await deployment.upstream.count_tokens(request, deployment.name_there, limit_s=left_s)
            if tokens is not None:
                self._per_guess = tokens / guess
                return tokens
            if self._left_s() >= _HARDLY_S:
                del self._counters[0]
        self.is_exact = False
        return math.ceil(self.likely(guess))

    def _left_s(self) -> float:
        return self._deadline_s - self._loop.time()
