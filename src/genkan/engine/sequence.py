"""One request inside the engine: prompt ids, how to sample, and where its tokens go."""

import asyncio
from collections.abc import Sequence as Ids
from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose each token, and when to end.

    A temperature below 1e-5 is greedy; ``seed`` makes sampling repeatable; any of ``stop_ids`` ends the sequence.
    """

    max_tokens: int
    stop_ids: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


class Token(NamedTuple):
    """One generated token; the last one of a sequence carries why it is the last.

    A stop token is generated and counted like any other, with finish reason ``stop``.
    """

    id: int
    finish_reason: FinishReason | None


class Sequence:
    """What the engine thread and the event loop share of one request.

    The event loop sets ``cancelled``; the engine thread reads it before every token and delivers to ``outbox``,
    always through the loop, so the queue itself is touched by one thread only.
    """

    __slots__ = ("_loop", "cancelled", "outbox", "params", "prompt_ids")

    def __init__(self, prompt_ids: Ids[int], params: SamplingParams, loop: asyncio.AbstractEventLoop) -> None:
        self.prompt_ids = prompt_ids
        self.params = params
        self.cancelled = False
        self.outbox: asyncio.Queue[Token | Exception] = asyncio.Queue()  # at most params.max_tokens small items
        self._loop = loop

    def deliver(self, item: Token | Exception) -> None:
        """Hand ``item`` to the event loop; from any thread, and without effect once the loop has closed."""
        try:
            self._loop.call_soon_threadsafe(self.outbox.put_nowait, item)
        except RuntimeError:
            self.cancelled = True
