"""A model that costs nothing, that a test can drive one forward pass at a time, and that trusts no block table."""

import asyncio
import threading
import zlib
from array import array
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.batch import BatchItem
from genkan.engine.statistics import EngineStatistics, StepReport

WAIT_S = 10.0  # how long anything here waits for something that a correct engine does at once

Rule = Callable[[list[int]], int]


def successor(seen: list[int]) -> int:
    """The token after the last one, by number."""
    return seen[-1] + 1


def digest(seen: list[int]) -> int:
    """A token that depends on every id before it and on its place, from 0 to 250."""
    return zlib.crc32(array("i", seen)) % 251


def answering(answer: list[int]) -> Rule:
    """The tokens of ``answer`` in turn, after any prompt that does not end like the beginning of ``answer``."""

    def rule(seen: list[int]) -> int:
        given = max(n for n in range(len(answer)) if n == 0 or seen[-n:] == answer[:n])
        return answer[given]

    return rule


def alone(rule: Rule, prompt: list[int], max_tokens: int) -> list[int]:
    """What ``rule`` gives after ``prompt`` when nothing is batched, cached or divided."""
    seen = list(prompt)
    for _ in range(max_tokens):
        seen.append(rule(seen))
    return seen[len(prompt) :]


_Slots = npt.NDArray[np.int64]
_UNWRITTEN = -1


class FakeRunner:
    """A Runner whose next token is a function of all ids so far, which it reads back from a paged KV memory.

    A slot remembers which token of which position was written there. Writing the first slot of a block makes the
    others unwritten, as a block that is begun is a new one, whatever it held before. A pass raises AssertionError, and
    so fails a sequence, when an item's blocks do not lead to a written slot for each of its positions; when they did
    not before the pass for those that it does not compute; when two items write to one slot, or one to what another
    reads. ``rule`` is asked for every item, also for those that want no logits.

    ``calls`` are the items of each pass. After ``hold``, every pass waits for a ``let``.
    """

    def __init__(
        self,
        rule: Rule = successor,
        *,
        vocab_size: int = 256,
        max_model_len: int = 128,
        num_blocks: int = 64,
        block_size: int = 16,
    ) -> None:
        self.max_model_len = max_model_len
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.calls: list[list[BatchItem]] = []
        self._rule = rule
        self._vocab_size = vocab_size
        self._positions = np.full(num_blocks * block_size, _UNWRITTEN)
        self._ids = np.full(num_blocks * block_size, _UNWRITTEN)
        self._held = False
        self._entered = threading.Semaphore(0)
        self._allowed = threading.Semaphore(0)

    @property
    def computed(self) -> list[list[list[int]]]:
        """The ids that each pass computed, item by item."""
        return [[item.ids.tolist() for item in items] for items in self.calls]

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        self.calls.append([item._replace(ids=item.ids[:], blocks=item.blocks[:]) for item in items])
        self._entered.release()
        if self._held and not self._allowed.acquire(timeout=WAIT_S):
            raise TimeoutError("no test let this forward pass go on")
        wanted = [
            token for item, seen in zip(items, self._contexts(items), strict=True) for token in self._after(item, seen)
        ]
        logits = torch.full((len(wanted), self._vocab_size), -1e4)
        logits[torch.arange(len(wanted)), wanted] = 0.0
        return logits

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

    def _after(self, item: BatchItem, seen: list[int]) -> list[int]:
        """The next token after each of the last of an item's ids, as many as it wants."""
        last = self._rule(seen)
        before = [self._rule(seen[: len(seen) - back]) for back in range(item.outputs - 1, 0, -1)]
        return [*before, last][len(before) + 1 - item.outputs :]

    def _contexts(self, items: list[BatchItem]) -> list[list[int]]:
        """Write the items' ids; for each item all ids up to its last, read from the memory."""
        ends = [item.position + len(item.ids) for item in items]
        before = [self._read(item, item.position) for item in items]
        written = np.concatenate([self._write(item, end) for item, end in zip(items, ends, strict=True)])
        assert len(written) == len(set(written.tolist())), "two sequences write to one slot"
        contexts = [self._read(item, end) for item, end in zip(items, ends, strict=True)]
        for item, old, new in zip(items, before, contexts, strict=True):
            assert new == old + item.ids.tolist(), "a sequence's KV was written over"
        return contexts

    def _read(self, item: BatchItem, end: int) -> list[int]:
        slots = self._slots(item, end)
        assert (self._positions[slots] == np.arange(end)).all(), "KV that is not this sequence's"
        ids: list[int] = self._ids[slots].tolist()
        return ids

    def _write(self, item: BatchItem, end: int) -> _Slots:
        slots = self._slots(item, end)[item.position :]
        begun = slots[slots % self.block_size == 0]
        self._positions[begun[:, None] + np.arange(self.block_size)] = _UNWRITTEN
        self._positions[slots] = np.arange(item.position, end)
        self._ids[slots] = item.ids
        return slots

    def _slots(self, item: BatchItem, end: int) -> _Slots:
        """Where the first ``end`` tokens of an item lie."""
        assert end <= len(item.blocks) * self.block_size, "a position without a block"
        blocks = np.array(item.blocks, dtype=np.int64)
        assert ((blocks >= 0) & (blocks < self.num_blocks)).all(), "a block that does not exist"
        return (blocks[:, None] * self.block_size + np.arange(self.block_size)).reshape(-1)[:end]


class SwappingRunner(FakeRunner):
    """A FakeRunner that keeps KV in ``num_host_blocks`` blocks of the host's; each is copied back once at most.

    A copy raises MemoryError while ``copies_fail``.
    """

    def __init__(self, rule: Rule = successor, *, num_host_blocks: int = 64, **sizes: int) -> None:
        super().__init__(rule, **sizes)
        self.num_host_blocks = num_host_blocks
        self.num_copied_in = 0
        self.copies_fail = False
        self._host: dict[int, tuple[_Slots, _Slots]] = {}

    def copy_out(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        self._check(blocks, host_blocks)
        for block, host_block in zip(blocks, host_blocks, strict=True):
            slots = self._slots_of(block)
            self._host[host_block] = self._positions[slots].copy(), self._ids[slots].copy()

    def copy_in(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        self._check(blocks, host_blocks)
        for block, host_block in zip(blocks, host_blocks, strict=True):
            slots = self._slots_of(block)
            self._positions[slots], self._ids[slots] = self._host.pop(host_block)
            self.num_copied_in += 1

    def _check(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        assert all(0 <= block < self.num_blocks for block in blocks)
        assert all(0 <= block < self.num_host_blocks for block in host_blocks)
        if self.copies_fail:
            raise MemoryError("no copies")

    def _slots_of(self, block: int) -> slice:
        return slice(block * self.block_size, (block + 1) * self.block_size)


class Changes:
    """An EngineObserver that remembers, and that a test can wait on."""

    def __init__(self) -> None:
        self.seen: list[EngineStatistics] = []
        self.steps: list[StepReport] = []
        self._changed = threading.Condition()

    def changed(self, statistics: EngineStatistics) -> None:
        with self._changed:
            self.seen.append(statistics)
            self._changed.notify_all()

    def stepped(self, report: StepReport) -> None:
        with self._changed:
            self.steps.append(report)
            self._changed.notify_all()

    async def until(self, *, running: int, waiting: int) -> None:
        """Wait until the newest snapshot has these numbers."""
        there = await self._wait_for(lambda: self._newest() == (running, waiting))
        assert there, f"the engine never had {running} running and {waiting} waiting at the end of {self.seen}"

    async def until_idle(self) -> None:
        """Wait until nothing runs and nothing waits, after something did."""
        await self.until(running=0, waiting=0)

    async def until_steps(self, number: int) -> None:
        """Wait until so many steps have ended."""
        assert await self._wait_for(lambda: len(self.steps) >= number), f"only {len(self.steps)} steps ended"

    async def _wait_for(self, condition: Callable[[], bool]) -> bool:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, timeout=WAIT_S)

        return await asyncio.to_thread(wait)

    def _newest(self) -> tuple[int, int] | None:
        return (self.seen[-1].running, self.seen[-1].waiting) if self.seen else None
