"""Block pool and prefix cache in any order of calls, against a model that is a dict from prefixes to pages.

The model does everything the slow way: locks are counted by looking at the sequences, and what must be freed is found
by looking at everything. Few tokens and few blocks, so that prefixes collide and room runs out.
"""

import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page

NUM_BLOCKS, MAX_PINNED, MAX_PINNED_PER_NAMESPACE = 12, 4, 3
PAGE = 2  # tokens

Tokens = tuple[int, ...]
Key = tuple[int, Tokens]  # a tree, which is one life of a namespace between two purges, and a prefix in it

NAMESPACES = st.sampled_from([b"a", b"b"])
TOKENS = st.sampled_from([1, 1, 1, 2])
PROMPTS = st.lists(TOKENS, min_size=1, max_size=10).map(tuple)
TTLS_S = st.sampled_from([None, None, 2.0, 5.0])
WHICH = st.integers(0, 100)


@dataclass
class Known:
    """What the model knows of one page."""

    block: int
    ttl_s: float
    used_s: float
    last_used: int
    pinned: bool = False
    hits: int = 0


@dataclass
class Running:
    """A sequence: the prefix that it has locked, and the blocks that are its own."""

    tree: int
    page: Page
    locked: Tokens
    ahead: Tokens
    private: list[int] = field(default_factory=list)


def above(tokens: Tokens) -> list[Tokens]:
    """``tokens`` as a page and all pages above it, from the root down."""
    return [tokens[:end] for end in range(PAGE, len(tokens) + 1, PAGE)]


class PrefixCacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.cache = PrefixCache(self.pool, block_size=PAGE, pin_share=0.34, pin_share_per_namespace=0.25)
        self.now_s = 0.0
        self.clock = 0
        self.sequences: list[Running] = []
        self.trees: dict[bytes, int] = {}
        self.roots_last_used: dict[int, int] = {}
        self.known: dict[Key, Known] = {}
        self.counts = {"evictions": 0, "expirations": 0, "purged": 0, "pins_refused": 0}

    # The model

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def path(self, tree: int, tokens: Tokens) -> list[Known]:
        return [self.known[tree, prefix] for prefix in above(tokens)]

    def refs(self, key: Key) -> int:
        tree, tokens = key
        return sum(seq.tree == tree and seq.locked[: len(tokens)] == tokens for seq in self.sequences)

    def found(self) -> dict[Key, Known]:
        return {key: page for key, page in self.known.items() if key[0] in self.trees.values()}

    def unlocked(self) -> set[Key]:
        return {key for key in self.found() if self.refs(key) == 0}

    def due(self) -> set[Key]:
        """Unlocked pages that have expired, or stand on unlocked ones that have."""
        unlocked = self.unlocked()
        expired = {key for key in unlocked if self.known[key].used_s + self.known[key].ttl_s <= self.now_s}
        return {(tree, tokens) for tree, tokens in unlocked if any((tree, up) in expired for up in above(tokens))}

    def longest_match(self, namespace: bytes, prompt: Tokens) -> Tokens:
        tree = self.trees.get(namespace, -1)
        return max((up for up in above(prompt[:-1]) if (tree, up) in self.known), key=len, default=())

    def pins_left(self, tree: int) -> int:
        pinned = [key for key, page in self.found().items() if page.pinned]
        own = [key for key in pinned if key[0] == tree]
        return min(MAX_PINNED - len(pinned), MAX_PINNED_PER_NAMESPACE - len(own))

    def pin(self, tree: int, tokens: Tokens, ttl_s: float) -> int:
        """Pin what the budget allows of a path; returns how many pages it refused."""
        refused = 0
        for page in self.path(tree, tokens):
            if page.pinned:
                continue
            if self.pins_left(tree) == 0:
                refused += 1
            else:
                page.pinned, page.ttl_s, page.used_s = True, ttl_s, self.now_s
        return refused

    def forget_empty_trees(self) -> None:
        used = {tree for tree, _ in self.known} | {seq.tree for seq in self.sequences}
        self.trees = {namespace: tree for namespace, tree in self.trees.items() if tree in used}

    def forget_freed(self) -> set[Key]:
        """Drop from the model what the cache no longer has, and return it."""
        gone = set(self.found()) - set(self.pages())
        for key in gone:
            del self.known[key]
        self.forget_empty_trees()
        return gone

    def pages(self) -> dict[Key, Page]:
        """The cache's own pages that can be matched, by the model's keys."""
        pages: dict[Key, Page] = {}
        waiting: list[tuple[int, Tokens, Page]] = [
            (self.trees[namespace], (), root) for namespace, root in self.cache._tree.roots.items()
        ]
        for tree, tokens, page in waiting:
            for child in page.children.values():
                pages[tree, tokens + child.tokens] = child
                waiting.append((tree, tokens + child.tokens, child))
        return pages

    def pick(self, which: int) -> Running:
        return self.sequences[which % len(self.sequences)]

    # What sequences do

    @initialize(prompts=st.lists(PROMPTS, min_size=1, max_size=3))
    def begin_with_some(self, prompts: list[Tokens]) -> None:
        for prompt in prompts:
            seq = self.start_one(b"a", prompt)
            self.publish_pages(seq, len(prompt), None, False)

    @rule(namespace=NAMESPACES, prompt=PROMPTS, counted=st.booleans(), ttl_s=TTLS_S, pin=st.booleans())
    def start(self, namespace: bytes, prompt: Tokens, counted: bool, ttl_s: float | None, pin: bool) -> None:
        seq = self.start_one(namespace, prompt)
        if counted:
            self.cache.use(seq.page, self.now_s)
            self.touch(seq.tree, seq.locked)
            for step in self.path(seq.tree, seq.locked):
                step.hits += 1
        self.publish_pages(seq, 2, ttl_s, pin)

    def start_one(self, namespace: bytes, prompt: Tokens) -> Running:
        expected = self.longest_match(namespace, prompt)
        assert self.cache.peek(namespace, prompt) == len(expected) // PAGE
        if namespace not in self.trees:
            self.trees[namespace] = len(self.roots_last_used)
            self.roots_last_used[self.trees[namespace]] = self.tick()
        page = self.cache.match(namespace, prompt, self.now_s)
        assert page.depth == len(expected) // PAGE
        self.cache.lock(page)
        seq = Running(self.trees[namespace], page, expected, prompt[len(expected) :])
        self.sequences.append(seq)
        return seq

    def touch(self, tree: int, tokens: Tokens) -> None:
        self.roots_last_used[tree] = clock = self.tick()
        for page in self.path(tree, tokens):
            page.last_used, page.used_s = clock, self.now_s

    @precondition(lambda self: self.sequences and self.pool.num_free)
    @rule(which=WHICH, tokens=st.lists(TOKENS, max_size=6).map(tuple))
    def generate(self, which: int, tokens: Tokens) -> None:
        seq = self.pick(which)
        seq.ahead += tokens
        seq.private += self.pool.take(1)

    @precondition(lambda self: self.sequences)
    @rule(which=WHICH, num_pages=st.integers(1, 4), ttl_s=TTLS_S, pin=st.booleans())
    def publish(self, which: int, num_pages: int, ttl_s: float | None, pin: bool) -> None:
        self.publish_pages(self.pick(which), num_pages, ttl_s, pin)

    def publish_pages(self, seq: Running, most: int, ttl_s: float | None, pin: bool) -> None:
        """Publish as many full pages as there are tokens and blocks for."""
        for _ in range(min(most, len(seq.ahead) // PAGE)):
            if not seq.private and self.pool.num_free:
                seq.private += self.pool.take(1)
            if seq.private:
                self.publish_page(seq, ttl_s, pin)

    def publish_page(self, seq: Running, ttl_s: float | None, pin: bool) -> None:
        tokens, block = seq.ahead[:PAGE], seq.private[0]
        key = (seq.tree, seq.locked + tokens)
        page, is_new = self.cache.extend(seq.page, tokens, block, self.now_s, ttl_s=ttl_s, pin=pin)
        self.cache.advance(seq.page, page)
        assert is_new == (key not in self.known)
        if is_new:
            seq.private.remove(block)
        self.retain(key, block, math.inf if ttl_s is None else ttl_s, pin)
        seq.page, seq.locked, seq.ahead = page, key[1], seq.ahead[PAGE:]
        assert page.block == self.known[key].block

    def retain(self, key: Key, block: int, ttl_s: float, pin: bool) -> None:
        tree, tokens = key
        if key not in self.known:
            parent = self.known.get((tree, tokens[:-PAGE]))
            last_used = self.roots_last_used[tree] if parent is None else parent.last_used
            self.known[key] = Known(block, ttl_s, self.now_s, last_used)
        page = self.known[key]
        if tree not in self.trees.values():
            return
        if pin and not page.pinned and self.pins_left(tree) == 0:
            self.counts["pins_refused"] += 1
        elif pin:
            self.counts["pins_refused"] += self.pin(tree, tokens, ttl_s)
        if pin or not page.pinned:
            page.ttl_s = max(page.ttl_s, ttl_s)
        page.used_s = self.now_s

    @precondition(lambda self: self.sequences)
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        seq = self.pick(which)
        self.cache.unlock(seq.page, self.now_s)
        self.pool.give_back(seq.private)
        self.touch(seq.tree, seq.locked)
        self.sequences.remove(seq)
        purged = [key for key in self.known if key[0] == seq.tree and seq.tree not in self.trees.values()]
        for key in purged:
            if self.refs(key) == 0:
                del self.known[key]
        self.forget_empty_trees()

    @precondition(lambda self: self.sequences)
    @rule(which=WHICH, ttl_s=TTLS_S)
    def pin_path(self, which: int, ttl_s: float | None) -> None:
        seq = self.pick(which)
        wanted_s = math.inf if ttl_s is None else ttl_s
        pinned = self.cache.pin_path(seq.page, self.now_s, ttl_s=ttl_s)
        if seq.tree not in self.trees.values():
            assert pinned == 0
            return
        self.counts["pins_refused"] += self.pin(seq.tree, seq.locked, wanted_s)
        pages = [page for page in self.path(seq.tree, seq.locked) if page.pinned]
        for page in pages:
            page.ttl_s, page.used_s = max(page.ttl_s, wanted_s), self.now_s
        assert pinned == len(pages)

    # What frees pages

    @rule(count=st.integers(0, 5), seconds=st.integers(0, 3))
    def evict(self, count: int, seconds: int) -> None:
        self.now_s += seconds
        unlocked, due, order = self.unlocked(), self.due(), self.eviction_order()
        freed = self.cache.evict(count, self.now_s)
        gone = self.forget_freed()
        assert freed == len(gone) == min(count, len(unlocked))
        assert gone <= unlocked
        assert gone <= due or due <= gone, "what has not expired went before what has"
        chosen, left = gone - due, unlocked - gone
        if chosen and left:
            assert max(order[key] for key in chosen) <= min(order[key] for key in left)
        self.counts["expirations"] += len(gone & due)
        self.counts["evictions"] += len(chosen)

    def eviction_order(self) -> dict[Key, tuple[bool, int]]:
        return {key: (page.pinned, page.last_used) for key, page in self.known.items()}

    @rule(seconds=st.integers(0, 3))
    def expire(self, seconds: int) -> None:
        self.now_s += seconds
        due = self.due()
        assert self.cache.expire(self.now_s) == len(due)
        assert self.forget_freed() == due
        self.counts["expirations"] += len(due)

    @rule(namespace=NAMESPACES)
    def purge(self, namespace: bytes) -> None:
        tree = self.trees.pop(namespace, -1)
        purged = [key for key in self.known if key[0] == tree]
        assert self.cache.purge(namespace) == len(purged)
        self.counts["purged"] += len(purged)
        for key in purged:
            if self.refs(key) == 0:
                del self.known[key]
            else:
                self.known[key].pinned = False

    # What always holds

    @invariant()
    def the_cache_is_sound(self) -> None:
        self.cache.check()

    @invariant()
    def the_cache_has_what_the_model_has(self) -> None:
        assert {
            key: (page.block, page.refs, page.pinned, page.hits, page.expires_s) for key, page in self.pages().items()
        } == {
            key: (known.block, self.refs(key), known.pinned, known.hits, known.used_s + known.ttl_s)
            for key, known in self.found().items()
        }

    @invariant()
    def every_block_is_in_one_place(self) -> None:
        held = [page.block for page in self.known.values()]
        for seq in self.sequences:
            held += seq.private
        assert len(held) == len(set(held))
        assert all(self.pool.is_free(block) == (block not in held) for block in range(NUM_BLOCKS))
        assert self.pool.num_free + len(held) == NUM_BLOCKS
        assert self.cache.num_detached == len(self.known) - len(self.found())

    @invariant()
    def the_counts_agree(self) -> None:
        statistics = self.cache.statistics()
        assert {name: getattr(statistics, name) for name in self.counts} == self.counts
        assert self.cache.evictable == len(self.unlocked())


TestPrefixCache = PrefixCacheMachine.TestCase
TestPrefixCache.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
