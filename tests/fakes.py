"""A model that costs nothing, and that a test can drive one forward pass at a time."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import torch

from genkan.engine.statistics import EngineStatistics

WAIT_S = 10.0  # how long anything here waits for something that a correct engine does at once

Rule = Callable[[list[int]], int]


def successor(seen: list[int]) -> int:
    """The token after the last one, by number."""
    return seen[-1] + 1


def answering(answer: list[int]) -> Rule:
    """The tokens of ``answer`` in turn, after any prompt that does not end like the beginning of ``answer``."""

    def rule(seen: list[int]) -> int:
        given = max(n for n in range(len(answer)) if n == 0 or seen[-n:] == answer[:n])
        return answer[given]

    return rule


class FakeRunner:
    """A Runner whose next token is a function of all ids so far; its KV cache is the list of them.

    ``calls`` are the ids of each forward pass. After ``hold``, every pass waits for a ``let``.
    """

    def __init__(self, rule: Rule = successor, *, vocab_size: int = 256, max_model_len: int = 128) -> None:
        self.max_model_len = max_model_len
        self.calls: list[list[int]] = []
        self._rule = rule
        self._vocab_size = vocab_size
        self._held = False
        self._entered = threading.Semaphore(0)
        self._allowed = threading.Semaphore(0)

    def forward(self, ids: list[int], kv: Any) -> tuple[torch.Tensor, Any]:
        self.calls.append(list(ids))
        self._entered.release()
        if self._held and not self._allowed.acquire(timeout=WAIT_S):
            raise TimeoutError("no test let this forward pass go on")
        seen = [*(kv or []), *ids]
        logits = torch.full((self._vocab_size,), -1e4)
        logits[self._rule(seen)] = 0.0
        return logits, seen

    def hold(self) -> None:
        """From the next pass on, wait inside each."""
        self._held = True

    def let(self, passes: int = 1) -> None:
        """Let so many held passes go on."""
        self._allowed.release(passes)

    def let_all(self) -> None:
        """Let the held pass go on, and hold no other."""
        self._held = False
        self._allowed.release()

    async def entered(self) -> None:
        """Wait until one more forward pass has begun than was waited for before."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=WAIT_S), "the engine began no forward pass"


class Changes:
    """An ``on_change`` that remembers, and that a test can wait on."""

    def __init__(self) -> None:
        self.seen: list[EngineStatistics] = []
        self._changed = threading.Condition()

    def __call__(self, statistics: EngineStatistics) -> None:
        with self._changed:
            self.seen.append(statistics)
            self._changed.notify_all()

    async def until(self, *, running: int, waiting: int) -> None:
        """Wait until the newest snapshot has these numbers."""
        there = await asyncio.to_thread(self._wait_for, (running, waiting))
        assert there, f"the engine never had {running} running and {waiting} waiting at the end of {self.seen}"

    async def until_idle(self) -> None:
        """Wait until nothing runs and nothing waits, after something did."""
        await self.until(running=0, waiting=0)

    def _wait_for(self, numbers: tuple[int, int]) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._newest() == numbers, timeout=WAIT_S)

    def _newest(self) -> tuple[int, int] | None:
        return (self.seen[-1].running, self.seen[-1].waiting) if self.seen else None
