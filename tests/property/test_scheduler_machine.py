"""Scheduler, block pool and prefix cache in any order of calls, with a dict for the KV memory.

What a model would read back from the memory is the whole prefix that led to a token, and who may know it; so the dict
holds just that, and a block that was shared, evicted or exchanged wrongly shows as soon as somebody computes on it. Few
tokens and few blocks, so that prefixes collide and room runs out.
"""

from dataclasses import dataclass
from itertools import chain

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from genkan.engine.block_pool import BlockPool
from genkan.engine.pace import Pace
from genkan.engine.plan import Scheduled
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import path
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduler
from genkan.engine.sequence import PrefixOptions, Sequence
from genkan.engine.sequence_blocks import BlockCopy

BLOCK = 4  # tokens

Life = tuple[bytes, int]  # a namespace between two purges
Owner = Life | Sequence  # who may read: all of a namespace, or one sequence that keeps its prompt to itself
Cell = tuple[Owner, tuple[int, ...]]

Request = tuple[list[int], int, str, PrefixOptions, int, int, bool]

NAMESPACES = (b"a", b"b")
PROMPTS = st.builds(
    lambda shared, own: [1] * shared + own, st.integers(0, 24), st.lists(st.integers(0, 1), min_size=1, max_size=9)
)
OPTIONS = st.builds(
    PrefixOptions,
    namespace=st.sampled_from(NAMESPACES),
    use=st.sampled_from([True, True, True, False]),
    ttl_s=st.sampled_from([None, None, 2.0, 5.0]),
    pin=st.booleans(),
)
REQUESTS = st.tuples(
    PROMPTS,
    st.integers(1, 24),
    st.sampled_from("xyz"),
    OPTIONS,
    st.sampled_from([1, 1, 1, 3]),  # answers
    st.sampled_from([0, 0, 0, -1, 2]),  # priority
    st.sampled_from([False, False, False, True]),  # whether the prompt is scored
)
WHICH = st.integers(0, 100)
BITS = st.integers(0, 255)  # which of two tokens each part of a step is answered with


@dataclass(frozen=True)
class Before:
    """What held before a plan."""

    running: list[Sequence]
    decodes: list[Sequence]
    waiting: set[Sequence]


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(3, 40),
        budget=st.integers(6, 40),
        max_sequences=st.integers(1, 6),  # never more than the budget: each takes a token of it
        chunked_prefill=st.sampled_from([True, True, False]),
        preemption=st.sampled_from([True, True, False]),
        slowdown=st.sampled_from([None, 1.5]),
        ttl_s=st.sampled_from([None, 3.0]),
        host_blocks=st.sampled_from([0, 5, 40]),
        max_scored=st.integers(1, 12),
    )
    def begin(
        self,
        num_blocks: int,
        budget: int,
        max_sequences: int,
        chunked_prefill: bool,
        preemption: bool,
        slowdown: float | None,
        ttl_s: float | None,
        host_blocks: int,
        max_scored: int,
    ) -> None:
        self.limits = Limits(
            max_batched_tokens=budget,
            max_sequences=max_sequences,
            chunked_prefill=chunked_prefill,
            preemption=preemption,
            max_scored_tokens=max_scored,
        )
        pace = Pace(slowdown)
        pace.observe(1.0, 1, 0)
        pace.observe(32.0, 0, 32)  # a token as long as a decode: chunks of 16 beside decodes, where there is a pace
        self.pool = BlockPool(num_blocks)
        self.cache = PrefixCache(self.pool, block_size=BLOCK, pin_share=0.34, ttl_s=ttl_s)
        self.host = BlockPool(host_blocks)
        self.scheduler = Scheduler(self.pool, self.cache, self.limits, pace, self.host)
        self.now_s = 0.0
        self.memory: dict[tuple[int, int], Cell] = {}
        self.host_memory: dict[int, dict[int, Cell]] = {}
        self.copies_fail = False
        self.purges = dict.fromkeys(NAMESPACES, 0)
        self.alive: list[Sequence] = []
        self.ended: list[Sequence] = []
        self.owners: dict[Sequence, Owner] = {}  # of those that run
        self.queries = 0
        self.ran: set[Sequence] = set()

    # Rules

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=4))
    def submit(self, requests: list[Request]) -> None:
        for prompt, max_tokens, tenant, options, answers, priority, is_scored in requests:
            prompt = prompt[: self.scheduler.max_request_tokens - 1]
            params = SamplingParams(
                max_tokens=min(max_tokens, self.scheduler.max_request_tokens - len(prompt)),
                prompt_logprobs=0 if is_scored else None,
            )
            for answer in range(answers):
                sequence = Sequence(
                    prompt, params, tenant=tenant, prefix=options, answer=answer, priority=priority, now_s=self.now_s
                )
                self.alive.append(sequence)
                self.scheduler.submit(sequence)

    @precondition(lambda self: self.alive)
    @rule(count=st.integers(1, 16), bits=BITS)
    def steps(self, count: int, bits: int) -> None:
        for number in range(count):
            self.compute_all(self.plan(), bits >> number % 3)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, bits=BITS)
    def step_in_which_one_fails(self, which: int, bits: int) -> None:
        parts = self.plan()
        fails = parts[which % len(parts)].sequence
        self.compute_all([part for part in parts if part.sequence is not fails], bits)
        self.end(fails)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def abort(self, which: int) -> None:
        self.end(self.alive[which % len(self.alive)])

    @precondition(lambda self: self.ended)
    @rule(which=WHICH)
    def abort_too_late(self, which: int) -> None:
        self.scheduler.finish(self.ended[which % len(self.ended)], self.now_s)

    @precondition(lambda self: self.host.num_blocks)
    @rule()
    def the_next_copies_fail(self) -> None:
        self.copies_fail = True

    @rule(namespace=st.sampled_from(NAMESPACES))
    def purge(self, namespace: bytes) -> None:
        self.cache.purge(namespace)
        self.purges[namespace] += 1
        assert self.cache.peek(namespace, [1] * 2 * BLOCK) == 0

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    # A step

    def plan(self) -> list[Scheduled]:
        running = self.scheduler.running
        before = Before(
            running=list(running),
            decodes=[sequence for sequence in running if sequence.num_to_compute == 1],
            waiting=set(self.scheduler.waiting),
        )
        parts, copies_out, copies_in = self.scheduler.plan(self.now_s)
        assert not (copies_out and copies_in), "a block of the host's could be written to before it is read"
        assert bool(parts) == bool(self.alive), "the plan is empty only when nothing waits and nothing runs"
        self.note_who_runs()
        if parts:
            self.check_plan(parts, before)
        lost = self.copy(copies_out, copies_in)
        return [part for part in parts if part.sequence not in lost]

    def copy(self, copies_out: list[BlockCopy], copies_in: list[BlockCopy]) -> set[Sequence]:
        """Make a plan's copies; whose could not be made."""
        lost: set[Sequence] = set()
        for copy in [*copies_out, *copies_in]:
            assert len(copy.blocks) == len(copy.host_blocks) > 0
            if self.copies_fail:
                self.copies_fail = False
                self.scheduler.copy_failed(copy, self.now_s)
                self.note_who_runs()
                lost.add(copy.sequence)
        for copy in copies_out:
            if copy.sequence not in lost:
                for block, host_block in zip(copy.blocks, copy.host_blocks, strict=True):
                    cells = {at: self.memory.get((block, at)) for at in range(BLOCK)}
                    self.host_memory[host_block] = {at: cell for at, cell in cells.items() if cell is not None}
        for copy in copies_in:
            if copy.sequence not in lost:
                owner = self.owners[copy.sequence]
                for block, host_block in zip(copy.blocks, copy.host_blocks, strict=True):
                    for at, (_, tokens) in self.host_memory.pop(host_block).items():
                        self.memory[block, at] = (owner, tokens)  # its own, whatever was purged meanwhile
        return lost

    def note_who_runs(self) -> None:
        for sequence in [sequence for sequence in self.owners if sequence not in self.scheduler.running]:
            del self.owners[sequence]
        for sequence in self.scheduler.running:
            if sequence not in self.owners:
                options = sequence.prefix
                life = (options.namespace, self.purges[options.namespace])
                self.owners[sequence] = life if options.use else sequence
                self.queries += options.use and sequence not in self.ran
                self.ran.add(sequence)

    def check_plan(self, parts: list[Scheduled], before: Before) -> None:
        planned = [part.sequence for part in parts]
        running = self.scheduler.running
        assert len(set(planned)) == len(planned)
        assert set(planned) <= set(running)
        assert running[0] in planned, "the first always goes on"
        if set(before.running) <= set(running):
            self.check_places(before)
        else:
            assert running, "the first was preempted"
            assert running == before.running[: len(running)], "not the last were preempted, or somebody was admitted"
        decodes = [sequence for sequence in before.decodes if sequence in running]
        assert planned[: len(decodes)] == decodes, "decodes come first, all of them, the oldest first"
        self.check_counts(parts)
        self.check_no_page_is_computed_twice(parts)

    def check_places(self, before: Before) -> None:
        running = self.scheduler.running
        places = [sequence.tenant for sequence in before.running]
        assert places == [sequence.tenant for sequence in running[: len(places)]], "a tenant lost a place"
        for tenant in set(places):
            order = [sequence.priority for sequence in running if sequence.tenant == tenant]
            assert order == sorted(order, reverse=True), "a tenant's own are not in the order of their priority"

    def check_counts(self, parts: list[Scheduled]) -> None:
        budget, prompts = self.limits.max_batched_tokens, [part for part in parts if part.count > 1]
        for part in parts:
            assert 1 <= part.count <= part.sequence.num_to_compute
            assert self.limits.chunked_prefill or part.wants_token or part.sequence.num_unscored
            assert len(part.sequence.blocks) == -(-(part.sequence.num_computed + part.count) // BLOCK)
        scored = sum(part.outputs - part.wants_token for part in parts if part.sequence.num_unscored)
        assert scored <= self.limits.max_scored_tokens
        if self.limits.chunked_prefill or len(prompts) > 1:
            assert sum(part.count for part in parts) <= budget

    def check_no_page_is_computed_twice(self, parts: list[Scheduled]) -> None:
        pages: set[Cell] = set()
        for part in parts:
            sequence, start = part.sequence, part.sequence.num_computed
            if sequence.num_unscored:
                continue  # it looks for nothing
            last = min(start + part.count, sequence.num_prompt, len(sequence.tokens) - 1)  # what could be shared
            for end in range((start // BLOCK + 1) * BLOCK, last + 1, BLOCK):
                page = self.owners[sequence], tuple(sequence.tokens[:end])
                assert page not in pages, "two compute a page that one could have found"
                pages.add(page)

    def compute_all(self, parts: list[Scheduled], bits: int) -> None:
        for part in parts:
            self.check_what_it_reads(part)
            self.write(part)
        for place, part in enumerate(parts):
            wants_token = part.wants_token
            if part.sequence.num_unscored:
                part.sequence.num_unscored -= part.outputs - wants_token
            self.scheduler.computed(part, self.now_s)
            if wants_token:
                part.sequence.tokens.append(bits >> place & 1)
                if part.sequence.finish_reason() is not None:
                    self.end(part.sequence)

    def cells(self, sequence: Sequence, start: int, end: int) -> dict[tuple[int, int], Cell]:
        """Where the KV of some tokens has to lie, and what it has to be."""
        owner, tokens, blocks = self.owners[sequence], tuple(sequence.tokens), sequence.blocks
        return {(blocks[at // BLOCK], at % BLOCK): (owner, tokens[: at + 1]) for at in range(start, end)}

    def check_what_it_reads(self, part: Scheduled) -> None:
        for place, cell in self.cells(part.sequence, 0, part.sequence.num_computed).items():
            assert self.memory[place] == cell, "the KV of other tokens, or of somebody else's"

    def write(self, part: Scheduled) -> None:
        start = part.sequence.num_computed
        self.memory.update(self.cells(part.sequence, start, start + part.count))

    def end(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence, self.now_s)
        self.alive.remove(sequence)
        self.ended.append(sequence)
        assert not sequence.blocks
        assert sequence.page is None

    # What always holds

    @invariant()
    def all_is_sound(self) -> None:
        self.scheduler.check()

    @invariant()
    def every_sequence_is_in_one_place(self) -> None:
        running, waiting = self.scheduler.running, list(self.scheduler.waiting)
        assert len(running) <= self.limits.max_sequences
        assert len(running) + len(waiting) == len(self.alive)
        assert len(waiting) == len(self.scheduler.waiting)
        assert {*running, *waiting} == set(self.alive)
        assert not any(sequence.blocks or sequence.page for sequence in chain(waiting, self.ended))
        assert not any(sequence.host_copy for sequence in chain(running, self.ended))

    @invariant()
    def every_block_is_in_one_place(self) -> None:
        private: list[int] = []
        for sequence in self.scheduler.running:
            pages = [] if sequence.page is None else [page for page in path(sequence.page) if page.depth][::-1]
            assert [page.block for page in pages] == sequence.blocks[: len(pages)].tolist()
            assert sequence.page is None or len(pages) == sequence.num_computed // BLOCK, "a full page was not cached"
            private += sequence.blocks[len(pages) :]
        assert len(private) == len(set(private))
        assert not any(map(self.pool.is_free, private))
        kept = self.cache.num_pages + self.cache.num_detached
        assert self.pool.num_free + kept + len(private) == self.pool.num_blocks

    @invariant()
    def counts_agree(self) -> None:
        assert self.cache.statistics().queries == self.queries
        assert self.limits.preemption or self.scheduler.num_preemptions == 0

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):  # an example may be given up while its beginning is drawn
            return
        left = list(self.alive)
        # Each step moves the first on by a token, or admits somebody who is then the first. It has its place until its
        # end, or until one of a higher priority takes it, of which there are as many as there are sequences.
        for _ in range(sum(sequence.max_tokens for sequence in left) * (len(left) + 1)):
            if self.alive:
                self.compute_all(self.plan(), bits=0)
        assert not self.alive, "somebody never ends"
        assert all(sequence.finish_reason() == "length" for sequence in left)
        assert self.pool.num_free + self.cache.num_pages == self.pool.num_blocks
        for namespace in NAMESPACES:
            self.cache.purge(namespace)
        self.cache.check()
        assert self.pool.num_free == self.pool.num_blocks
        assert self.host.num_free == self.host.num_blocks


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=100, stateful_step_count=100, deadline=None)
