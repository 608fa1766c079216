"""Which tokens the next step computes. Pure: no torch, no threads, the clock passed in.

There is no prefill phase and no decode phase (vLLM V1). Every running sequence has tokens without KV: one while it
decodes, many after it was admitted. A step hands out a budget of tokens: first to the decodes, then to prompts already
begun, oldest first and an equal share for each tenant that has prompts, then to sequences that wait. A long prompt so
takes several steps, a chunk in each.

Blocks are taken as sequences grow. When none is free, unused pages of the prefix cache are evicted; when there are
none, the last of those that run is preempted: its computed pages stay in the prefix cache while there is room, what it
has computed is copied to the host's memory where there is some, and it waits again, in front. When it returns it goes
on from what is left in either place.

Those that run stand in the order of their admission, but that the places of one tenant are its sequences' by priority:
one of higher priority takes the place of the first that has a lower one, which moves back to the next place of that
tenant. So a tenant's own lowest priority is preempted first, and no priority costs another tenant a place. The first
is never preempted, and every sequence alone fits the pool, so the first always gets on; it loses its place only to a
higher priority, of which there are only so many, or by its end. So somebody always ends, and by induction everyone.

A prompt that begins like one being computed just now waits for those pages instead of computing them too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from genkan.engine.block_check import check_blocks
from genkan.engine.block_pool import BlockPool
from genkan.engine.pace import Pace
from genkan.engine.plan import Plan, PlanDraft, Scheduled
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sequence import Sequence
from genkan.engine.sequence_blocks import BlockCopy, SequenceBlocks
from genkan.engine.waiting import WaitingLine

MAX_SCORED_TOKENS = 64  # each costs a vocabulary of logits
_BLOCKS_A_SPARE = 100  # one block in so many stays for those that run, when another is admitted beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the scheduler keeps to; see EngineConfig for what each means.

    ``max_scored_tokens``: of prompts, in a step, with their log probabilities.
    """

    max_batched_tokens: int
    max_sequences: int
    chunked_prefill: bool = True
    preemption: bool = True
    max_scored_tokens: int = MAX_SCORED_TOKENS


class Scheduler:
    """Waiting and running sequences, and the blocks they hold."""

    def __init__(
        self, pool: BlockPool, cache: PrefixCache, limits: Limits, pace: Pace, host: BlockPool | None = None
    ) -> None:
        """``host``: the blocks that the host's memory has for preempted sequences; None for none."""
        self.running: list[Sequence] = []  # the last is preempted first
        self.waiting = WaitingLine()
        self.num_preemptions = 0
        self.num_swaps = 0  # of these, how many could be copied to the host
        self._pool = pool
        self._cache = cache
        self._limits = limits
        self._pace = pace
        self._host = host or BlockPool(0)
        self._blocks = SequenceBlocks(pool, cache, self._host)
        self._block_size = cache.block_size

    @property
    def max_request_tokens(self) -> int:
        """Prompt and answer together that fit the pool when nothing else runs."""
        return self._pool.num_blocks * self._block_size

    def submit(self, sequence: Sequence) -> None:
        """Let it wait. The caller has checked that ``sequence.max_tokens`` is at most ``max_request_tokens``."""
        assert sequence.max_tokens <= self.max_request_tokens
        self.waiting.add(sequence)

    def plan(self, now_s: float) -> Plan:
        """The next step; without parts only when nothing waits and nothing runs.

        Takes blocks, evicts, preempts and admits as it must. The caller makes the copies, or calls ``copy_failed``;
        then it computes every part and calls ``computed`` for it, or ``finish`` for what failed.
        """
        self._cache.expire(now_s)
        step = PlanDraft(self._limits.max_batched_tokens, self._limits.max_scored_tokens)
        self._continue_running(step, now_s)
        if not step.preempted:
            self._admit_waiting(step, now_s)
        parts = [Scheduled(sequence, count) for sequence, count in step.parts.items()]
        return Plan(parts, step.copies_out, step.copies_in)

    def copy_failed(self, copy: BlockCopy, now_s: float) -> None:
        """A copy of this plan was not made: what it was for is computed again.

        One that was to be copied back waits again, and its part of the plan is not to be computed.
        """
        sequence = copy.sequence
        self._blocks.drop_copy(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
            self._blocks.release(sequence, now_s)
            self.waiting.put_back(sequence)

    def computed(self, part: Scheduled, now_s: float) -> None:
        """The KV of ``part`` is there: count it, and put the pages it fills into the prefix cache."""
        part.sequence.num_computed += part.count
        self._blocks.publish(part.sequence, now_s)

    def finish(self, sequence: Sequence, now_s: float) -> None:
        """It has its last token, was cancelled, or failed: wherever it is, forget it and free what it holds.

        Pages whose KV was computed stay in the prefix cache. Does nothing for a sequence that is not here.
        """
        if sequence in self.running:
            self.running.remove(sequence)
            self._blocks.release(sequence, now_s)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
            self._blocks.drop_copy(sequence)
        self.waiting.forget_idle({running.tenant for running in self.running})

    def spare_block(self, now_s: float) -> int | None:
        """A block that holds nothing anybody needs and is still free; None where there is none."""
        if not self._pool.num_free:
            self._cache.evict(1, now_s)
        return self._pool.peek()

    def check(self) -> None:
        """Assert what must hold between two steps. Cost: O(blocks); for tests, and after failures."""
        check_blocks(self._pool, self._cache, self._host, self.running, self.waiting)

    # Those that run

    def _continue_running(self, step: PlanDraft, now_s: float) -> None:
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
            count = min(self._chunk(step, sequence), left[sequence.tenant])
            left[sequence.tenant] -= count
            self._continue(step, sequence, count, now_s)

    def _prompt_share(self, step: PlanDraft, prompts: list[Sequence]) -> int:
        """What one tenant's begun prompts may take of the step, so that others' prompts are computed beside them."""
        tenants = {sequence.tenant for sequence in prompts}
        if len(self.running) < self._limits.max_sequences:
            tenants |= self.waiting.tenants()
        if not self._limits.chunked_prefill or len(tenants) < 2:
            return sum(sequence.num_to_compute for sequence in prompts)
        return max(step.prompt_budget // len(tenants), 1)

    def _continue(self, step: PlanDraft, sequence: Sequence, count: int, now_s: float) -> None:
        """Schedule ``count`` tokens, preempting the last for their blocks, which may be this one."""
        if count == 0 or sequence in step.preempted:
            return
        while not self._blocks.ensure(sequence, count, now_s):
            victim = self.running[-1]
            self._preempt(step, victim, now_s)
            if victim is sequence:
                return
        self._schedule(step, sequence, count)

    def _preempt(self, step: PlanDraft, victim: Sequence, now_s: float) -> None:
        assert victim is not self.running[0], "the first fits the pool once it is alone"
        self.running.remove(victim)
        copy = self._blocks.copy_out(victim)
        if copy is not None:
            self.num_swaps += 1
            step.copies_out.append(copy)
        self._blocks.release(victim, now_s)
        victim.num_preempted += 1
        self.num_preemptions += 1
        self.waiting.served(victim.tenant, -step.withdraw(victim))
        self.waiting.put_back(victim)

    # Those that wait

    def _admit_waiting(self, step: PlanDraft, now_s: float) -> None:
        while len(self.running) < self._limits.max_sequences and step.prompt_budget > 0:
            sequence = next(self._candidates(step), None)
            if sequence is None or not self._admit(step, sequence, now_s):
                return  # the first that does not fit is waited for, or it would starve behind smaller ones

    def _candidates(self, step: PlanDraft) -> Iterator[Sequence]:
        for line in self.waiting.candidates(self._cached_pages):
            for sequence in line:
                if sequence.num_unscored and not step.scores_left:
                    continue  # those that are scored now go on first, and nobody waits behind it meanwhile
                if not self._is_being_computed(sequence):
                    yield sequence

    def _cached_pages(self, sequence: Sequence) -> int:
        options = sequence.prefix
        return self._cache.peek(options.namespace, sequence.to_be_found) if options.use else 0

    def _is_being_computed(self, sequence: Sequence) -> bool:
        """Whether a running sequence will soon publish the next page that this one lacks."""
        leaders = [leader for leader in self.running if _shares_prompt(leader, sequence)]
        if not leaders:
            return False
        cached = self._cached_pages(sequence)
        end = (cached + 1) * self._block_size  # of the first page that is not there
        if end >= len(sequence.to_be_found):
            return False  # the last token is never taken from the cache
        wanted = sequence.tokens[:end]
        return any(
            leader.num_computed < end <= leader.num_prompt and leader.tokens[:end] == wanted for leader in leaders
        )

    def _admit(self, step: PlanDraft, sequence: Sequence, now_s: float) -> bool:
        """Let ``sequence`` run, if there is room for it; with the pages of its prompt that are cached."""
        self._blocks.attach(sequence, now_s)  # before any room is counted, as locking takes room away
        count = self._chunk(step, sequence)
        if count == 0 or not self._has_room(sequence):
            self._blocks.release(sequence, now_s)
            return False
        there = self._blocks.ensure(sequence, count, now_s)
        assert there, "the room was counted"
        copy = self._blocks.copy_in(sequence)
        if copy is not None:
            step.copies_in.append(copy)
        if sequence.cached_tokens is None:  # the first time: what it finds after a preemption is its own
            self._count_query(sequence, now_s)
        self.waiting.admitted(sequence)
        self._take_place(sequence)
        self._schedule(step, sequence, count)
        return True

    def _take_place(self, sequence: Sequence) -> None:
        """Let it run: in the last place, or in that of the first of its tenant with a lower priority, who moves."""
        running = self.running
        running.append(sequence)
        its = len(running) - 1
        for place in range(its - 1, -1, -1):
            other = running[place]
            if other.tenant != sequence.tenant:
                continue
            if other.priority >= sequence.priority:
                return
            running[place], running[its] = sequence, other
            its = place

    def _count_query(self, sequence: Sequence, now_s: float) -> None:
        sequence.cached_tokens = sequence.num_computed
        if sequence.page is not None:
            self._cache.use(sequence.page, now_s)
            if sequence.is_query:
                self._cache.record_query(sequence.prefix.namespace, sequence.num_prompt, sequence.num_computed)
            if sequence.prefix.pin:  # those it will not publish, as they are there
                self._cache.pin_path(sequence.page, now_s, ttl_s=sequence.prefix.ttl_s)

    def _has_room(self, sequence: Sequence) -> bool:
        """Whether all its tokens fit beside those that run; without preemption, all that it may ever have."""
        if not self.running:
            return True
        available, missing = self._blocks.num_available, self._blocks.missing
        if self._limits.preemption:
            return available >= missing(sequence, len(sequence.tokens)) + self._spare()
        promised = sum(missing(other, other.max_tokens) for other in self.running)
        return available >= promised + missing(sequence, sequence.max_tokens)

    def _spare(self) -> int:
        return max(len(self.running), self._pool.num_blocks // _BLOCKS_A_SPARE)

    # Tokens

    def _chunk(self, step: PlanDraft, sequence: Sequence) -> int:
        """How many of its tokens this step takes."""
        wanted = sequence.num_to_compute
        if sequence.num_unscored:
            scored = min(wanted, sequence.num_scored - sequence.num_computed + step.scores_left)
            # Too many logits at once are no way to compute a prompt, chunks or no chunks.
            return min(scored, step.prompt_budget)
        if self._limits.chunked_prefill:
            return min(wanted, step.prompt_budget)
        # Whole prompts: one that is longer than the budget gets a step with no other prompt beside it.
        return wanted if wanted <= step.prompt_budget or not step.has_prompt else 0

    def _schedule(self, step: PlanDraft, sequence: Sequence, count: int) -> None:
        step.add(sequence, count)
        self.waiting.served(sequence.tenant, count)


def _shares_prompt(leader: Sequence, sequence: Sequence) -> bool:
    """Whether ``leader`` still computes a prompt whose pages ``sequence`` may find."""
    return (
        leader.num_computed < leader.num_prompt
        and leader.prefix.use
        and sequence.prefix.use
        and leader.prefix.namespace == sequence.prefix.namespace
    )
