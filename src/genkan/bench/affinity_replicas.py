"""Replicas of a model as far as their prefix caches go, in virtual time: the engine's own tree, and no tokens."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from genkan.bench.affinity_traffic import PREFILL_TOKENS_S, TOKEN_S, Turn
from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page

PAGE_TOKENS = 16


class Replica:
    """One cache of so many tokens, and what it has done."""

    def __init__(self, tokens: int) -> None:
        self._pool = BlockPool(tokens // PAGE_TOKENS)
        self._cache = PrefixCache(self._pool, block_size=PAGE_TOKENS)
        self.prompt_tokens = self.cached_tokens = self.computed_tokens = 0
        self.busy_s = 0.0  # summed over its requests: over the time, how many are in flight on average

    def begin(self, turn: Turn, now_s: float) -> tuple[Page, float]:
        """What it finds of a prompt, held, and how long the rest takes."""
        page = self._cache.match(turn.tenant.encode(), turn.prompt, now_s)
        self._cache.lock(page)
        self._cache.use(page, now_s)
        cached = page.depth * PAGE_TOKENS
        computed = len(turn.prompt) - cached
        self.prompt_tokens += len(turn.prompt)
        self.cached_tokens += cached
        self.computed_tokens += computed + len(turn.answer)
        return page, computed / PREFILL_TOKENS_S

    def keep(self, page: Page, tokens: list[int], now_s: float) -> Page:
        """Cache ``tokens``, which begin with those of ``page``, in whole pages, and move the lock to the last."""
        for start in range(page.depth * PAGE_TOKENS, len(tokens) - PAGE_TOKENS + 1, PAGE_TOKENS):
            if not self._pool.num_free and not self._cache.evict(1, now_s):
                break  # all is in use
            (block,) = self._pool.take(1)
            child, is_new = self._cache.extend(page, tuple(tokens[start : start + PAGE_TOKENS]), block, now_s)
            if not is_new:
                self._pool.give_back([block])
            self._cache.advance(page, child)
            page = child
        return page

    def end(self, page: Page, now_s: float) -> None:
        """Let go of ``page``."""
        self._cache.unlock(page, now_s)


Choose = Callable[[Turn, float], int]  # which replica gets a request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    hit_rate: float  # cached tokens of all prompt tokens
    work_imbalance: float  # the largest share of the computed tokens, as a multiple of the mean
    in_flight_imbalance: float
    in_flight: float  # on average, of all together


def run(
    turns: Sequence[Turn],
    replicas: Sequence[Replica],
    choose: Choose,
    moved: Callable[[int, int], None] = lambda replica, by: None,
) -> Outcome:
    """Serve ``turns``. ``moved`` is told of each request that begins (+1) or ends (-1) on a replica."""
    events: list[tuple[float, int, Callable[[float], None]]] = []
    numbers = count()

    def at(when_s: float, then: Callable[[float], None]) -> None:
        heapq.heappush(events, (when_s, next(numbers), then))

    def begin(turn: Turn, now_s: float) -> None:
        index = choose(turn, now_s)
        replica = replicas[index]
        moved(index, 1)
        page, prefill_s = replica.begin(turn, now_s)
        took_s = prefill_s + TOKEN_S * len(turn.answer)
        replica.busy_s += took_s
        held = page

        def computed(then_s: float) -> None:
            nonlocal held
            held = replica.keep(held, turn.prompt, then_s)

        def answered(then_s: float) -> None:
            replica.end(replica.keep(held, turn.prompt + turn.answer, then_s), then_s)
            moved(index, -1)

        at(now_s + prefill_s, computed)
        at(now_s + took_s, answered)

    for turn in turns:
        while events and events[0][0] <= turn.at_s:
            when_s, _, then = heapq.heappop(events)
            then(when_s)
        begin(turn, turn.at_s)
    while events:
        when_s, _, then = heapq.heappop(events)
        then(when_s)
    return outcome(replicas, turns[-1].at_s - turns[0].at_s)


def outcome(replicas: Sequence[Replica], seconds: float) -> Outcome:
    """What came of ``seconds`` of traffic."""
    prompt = sum(replica.prompt_tokens for replica in replicas)
    cached = sum(replica.cached_tokens for replica in replicas)
    work = [replica.computed_tokens for replica in replicas]
    busy_s = [replica.busy_s for replica in replicas]
    return Outcome(cached / prompt, _imbalance(work), _imbalance(busy_s), sum(busy_s) / seconds)


def _imbalance(values: Sequence[float]) -> float:
    return max(values) * len(values) / sum(values)
