"""Which tokens the next step computes. Pure: no torch, no threads, the clock passed in.

There is no prefill phase and no decode phase (vLLM V1). Every running sequence has tokens without KV: one while it
decodes, many after it was admitted. A step hands out a budget of tokens: first to the decodes, then to prompts already
begun, oldest first and an equal share for each tenant that has prompts, then to sequences that wait. A long prompt so
takes several steps, a chunk in each.

Blocks are taken as sequences grow. When none is free, unused pages of the prefix cache are evicted; when there are
none, the youngest running sequence is preempted: its computed pages stay in the prefix cache while there is room, it
waits again, in front, and finds what is left of them when it returns. The oldest is never preempted, and every sequence
alone fits the pool, so the oldest always ends, and with it, by induction, everyone.

A prompt that begins like one being computed just now waits for those pages instead of computing them too.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from genkan.engine.block_pool import BlockPool
from genkan.engine.pace import Pace
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page, path
from genkan.engine.sequence import Sequence
from genkan.engine.waiting import WaitingLine

_BLOCKS_A_SPARE = 100  # one block in so many stays for those that run, when another is admitted beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the scheduler keeps to; see EngineConfig for what each means."""

    max_batched_tokens: int
    max_sequences: int
    chunked_prefill: bool = True
    preemption: bool = True


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sequence's part of a step: ``count`` tokens from ``sequence.num_computed`` on."""

    sequence: Sequence
    count: int

    @property
    def wants_token(self) -> bool:
        """Whether all its tokens have KV then, so that the next can be drawn."""
        return self.count == self.sequence.num_to_compute


class Scheduler:
    """Waiting and running sequences, and the blocks they hold."""

    def __init__(self, pool: BlockPool, cache: PrefixCache, limits: Limits, pace: Pace) -> None:
        self.running: list[Sequence] = []  # in the order of admission: the oldest first
        self.waiting = WaitingLine()
        self.num_preemptions = 0
        self._pool = pool
        self._cache = cache
        self._limits = limits
        self._pace = pace
        self._block_size = cache.block_size

    @property
    def max_request_tokens(self) -> int:
        """Prompt and answer together that fit the pool when nothing else runs."""
        return self._pool.num_blocks * self._block_size

    def submit(self, sequence: Sequence) -> None:
        """Let it wait. The caller has checked that ``sequence.max_tokens`` is at most ``max_request_tokens``."""
        assert sequence.max_tokens <= self.max_request_tokens
        self.waiting.add(sequence)

    def plan(self, now_s: float) -> list[Scheduled]:
        """The next step; empty only when nothing waits and nothing runs.

        Takes blocks, evicts, preempts and admits as it must. The caller computes every part and calls ``computed`` for
        it, or ``finish`` for what failed.
        """
        self._cache.expire(now_s)
        step = _Step(budget=self._limits.max_batched_tokens)
        self._continue_running(step, now_s)
        if not step.preempted:
            self._admit_waiting(step, now_s)
        return [Scheduled(sequence, count) for sequence, count in step.parts.items()]

    def computed(self, part: Scheduled, now_s: float) -> None:
        """The KV of ``part`` is there: count it, and put the pages it fills into the prefix cache."""
        part.sequence.num_computed += part.count
        if part.sequence.page is not None:
            self._publish(part.sequence, part.sequence.page, now_s)

    def finish(self, sequence: Sequence, now_s: float) -> None:
        """It has its last token, was cancelled, or failed: wherever it is, forget it and free what it holds.

        Pages whose KV was computed stay in the prefix cache. Does nothing for a sequence that is not here.
        """
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence, now_s)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self.waiting.forget_idle({running.tenant for running in self.running})

    # Those that run

    def _continue_running(self, step: "_Step", now_s: float) -> None:
        decodes = [sequence for sequence in self.running if sequence.num_to_compute == 1]
        prompts = [sequence for sequence in self.running if sequence.num_to_compute > 1]
        for sequence in decodes:
            self._continue(step, sequence, min(1, step.budget), now_s)
        step.prompt_budget = step.budget
        if self._limits.chunked_prefill:
            step.prompt_budget = self._pace.chunk_limit(len(decodes), step.budget)
        share = self._prompt_share(step, prompts)
        left = dict.fromkeys((sequence.tenant for sequence in prompts), share)
        for sequence in prompts:
            count = min(self._chunk(step, sequence.num_to_compute), left[sequence.tenant])
            left[sequence.tenant] -= count
            self._continue(step, sequence, count, now_s)

    def _prompt_share(self, step: "_Step", prompts: list[Sequence]) -> int:
        """What one tenant's begun prompts may take of the step, so that others' prompts are computed beside them."""
        tenants = {sequence.tenant for sequence in prompts}
        if len(self.running) < self._limits.max_sequences:
            tenants |= self.waiting.tenants()
        if not self._limits.chunked_prefill or len(tenants) < 2:
            return sum(sequence.num_to_compute for sequence in prompts)
        return max(step.prompt_budget // len(tenants), 1)

    def _continue(self, step: "_Step", sequence: Sequence, count: int, now_s: float) -> None:
        """Schedule ``count`` tokens, preempting the youngest for their blocks, which may be this one."""
        if count == 0 or sequence in step.preempted:
            return
        while not self._ensure_blocks(sequence, count, now_s):
            victim = self.running[-1]
            self._preempt(step, victim, now_s)
            if victim is sequence:
                return
        self._schedule(step, sequence, count)

    def _preempt(self, step: "_Step", victim: Sequence, now_s: float) -> None:
        assert victim is not self.running[0], "the oldest fits the pool once it is alone"
        self.running.remove(victim)
        self._release(victim, now_s)
        victim.num_preempted += 1
        self.num_preemptions += 1
        self.waiting.served(victim.tenant, -step.withdraw(victim))
        self.waiting.put_back(victim)

    # Those that wait

    def _admit_waiting(self, step: "_Step", now_s: float) -> None:
        while len(self.running) < self._limits.max_sequences and step.prompt_budget > 0:
            sequence = next(self._candidates(), None)
            if sequence is None or not self._admit(step, sequence, now_s):
                return  # the first that does not fit is waited for, or it would starve behind smaller ones

    def _candidates(self) -> Iterator[Sequence]:
        for line in self.waiting.candidates(self._cached_pages):
            for sequence in line:
                if not self._is_being_computed(sequence):
                    yield sequence

    def _cached_pages(self, sequence: Sequence) -> int:
        options = sequence.prefix
        return self._cache.peek(options.namespace, sequence.tokens) if options.use else 0

    def _is_being_computed(self, sequence: Sequence) -> bool:
        """Whether a running sequence will soon publish the next page that this one lacks."""
        leaders = [leader for leader in self.running if _shares_prompt(leader, sequence)]
        if not leaders:
            return False
        cached = self._cached_pages(sequence)
        end = (cached + 1) * self._block_size  # of the first page that is not there
        if end >= len(sequence.tokens):
            return False  # the last token is never taken from the cache
        wanted = sequence.tokens[:end]
        return any(
            leader.num_computed < end <= leader.num_prompt and leader.tokens[:end] == wanted for leader in leaders
        )

    def _admit(self, step: "_Step", sequence: Sequence, now_s: float) -> bool:
        """Let ``sequence`` run, if there is room for it; with the pages of its prompt that are cached."""
        self._attach(sequence, now_s)
        count = self._chunk(step, sequence.num_to_compute)
        if count == 0 or not self._has_room(sequence):
            self._release(sequence, now_s)
            return False
        there = self._ensure_blocks(sequence, count, now_s)
        assert there, "the room was counted"
        if sequence.cached_tokens is None:  # the first time: what it finds after a preemption is its own
            self._count_query(sequence, now_s)
        self.waiting.admitted(sequence)
        self.running.append(sequence)
        self._schedule(step, sequence, count)
        return True

    def _attach(self, sequence: Sequence, now_s: float) -> None:
        """Lock the cached pages of its prompt; before any room is counted, as locking takes room away."""
        if not sequence.prefix.use:
            return
        page = self._cache.match(sequence.prefix.namespace, sequence.tokens, now_s)
        self._cache.lock(page)
        sequence.page = page
        sequence.blocks.extend(step.block for step in reversed(list(path(page))) if step.depth)
        sequence.num_computed = page.depth * self._block_size

    def _count_query(self, sequence: Sequence, now_s: float) -> None:
        sequence.cached_tokens = sequence.num_computed
        if sequence.page is not None:
            self._cache.use(sequence.page, now_s)
            self._cache.record_query(sequence.prefix.namespace, sequence.num_prompt, sequence.num_computed)
            if sequence.prefix.pin:  # those it will not publish, as they are there
                self._cache.pin_path(sequence.page, now_s, ttl_s=sequence.prefix.ttl_s)

    def _has_room(self, sequence: Sequence) -> bool:
        """Whether all its tokens fit beside those that run; without preemption, all that it may ever have."""
        if not self.running:
            return True
        available = self._pool.num_free + self._cache.evictable
        if self._limits.preemption:
            return available >= self._missing(sequence, len(sequence.tokens)) + self._spare()
        promised = sum(self._missing(other, other.max_tokens) for other in self.running)
        return available >= promised + self._missing(sequence, sequence.max_tokens)

    def _spare(self) -> int:
        return max(len(self.running), self._pool.num_blocks // _BLOCKS_A_SPARE)

    # Tokens and blocks

    def _chunk(self, step: "_Step", wanted: int) -> int:
        """How many of ``wanted`` prompt tokens this step takes."""
        if self._limits.chunked_prefill:
            return min(wanted, step.prompt_budget)
        # Whole prompts: one that is longer than the budget gets a step with no other prompt beside it.
        return wanted if wanted <= step.prompt_budget or not step.has_prompt else 0

    def _schedule(self, step: "_Step", sequence: Sequence, count: int) -> None:
        step.add(sequence, count)
        self.waiting.served(sequence.tenant, count)

    def _missing(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks that ``sequence`` lacks for so many tokens."""
        return -(-num_tokens // self._block_size) - len(sequence.blocks)

    def _ensure_blocks(self, sequence: Sequence, count: int, now_s: float) -> bool:
        """Give ``sequence`` blocks for ``count`` more tokens, evicting pages for them; False leaves it as it was."""
        missing = self._missing(sequence, sequence.num_computed + count)
        if missing <= 0:
            return True
        short = missing - self._pool.num_free
        if short > self._cache.evictable:
            return False
        if short > 0:
            self._cache.evict(short, now_s)
        sequence.blocks.extend(self._pool.take(missing))
        return True

    def _publish(self, sequence: Sequence, page: Page, now_s: float) -> None:
        size, options = self._block_size, sequence.prefix
        while (end := (page.depth + 1) * size) <= sequence.num_computed:
            place = page.depth
            tokens = tuple(sequence.tokens[end - size : end])
            # An answer is worth keeping, as a chat goes on from it, but not worth a pin.
            pin = options.pin and end <= sequence.num_prompt
            block = sequence.blocks[place]
            child, is_new = self._cache.extend(page, tokens, block, now_s, ttl_s=options.ttl_s, pin=pin)
            if not is_new:  # computed by two at once: both go on with the same block
                sequence.blocks[place] = child.block
                self._pool.give_back([block])
            self._cache.advance(page, child)
            sequence.page = page = child

    def _release(self, sequence: Sequence, now_s: float) -> None:
        """Take from ``sequence`` all blocks; those it shares with the cache stay there."""
        shared = 0 if sequence.page is None else sequence.page.depth
        self._pool.give_back(sequence.blocks[shared:])
        if sequence.page is not None:
            self._cache.unlock(sequence.page, now_s)
        sequence.page = None
        sequence.blocks = array("i")
        sequence.num_computed = 0


@dataclass(slots=True)
class _Step:
    """A plan in the making."""

    budget: int
    prompt_budget: int = 0  # of the budget, what prompts may take
    has_prompt: bool = False
    parts: dict[Sequence, int] = field(default_factory=dict)
    preempted: set[Sequence] = field(default_factory=set)

    def add(self, sequence: Sequence, count: int) -> None:
        self.parts[sequence] = count
        self.budget = max(self.budget - count, 0)
        self.prompt_budget = max(self.prompt_budget - count, 0)  # 0 as yet while the decodes are added
        self.has_prompt |= count > 1

    def withdraw(self, victim: Sequence) -> int:
        """A preempted sequence's part is not computed; how many tokens that was."""
        self.preempted.add(victim)
        count = self.parts.pop(victim, 0)
        self.budget += count
        return count


def _shares_prompt(leader: Sequence, sequence: Sequence) -> bool:
    """Whether ``leader`` still computes a prompt whose pages ``sequence`` may find."""
    return (
        leader.num_computed < leader.num_prompt
        and leader.prefix.use
        and sequence.prefix.use
        and leader.prefix.namespace == sequence.prefix.namespace
    )
