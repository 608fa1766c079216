"""The engine's async face: token ids in, tokens out, one thread that owns model, scheduler and caches.

Callers and the thread share an inbox under a lock, nothing else. Before each step the thread takes what lies there:
new sequences, cancels, questions about the prefix cache. After it, every event loop is woken once for all the tokens
that its readers got.

A step that fails is tried again in halves, so that what one sequence breaks fails that sequence only.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import torch

from genkan.clock import Clock, SystemClock
from genkan.engine.batch import BatchItem
from genkan.engine.block_pool import BlockPool
from genkan.engine.config import EngineConfig
from genkan.engine.pace import Pace
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sampler import RowSampler, sample
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduled, Scheduler
from genkan.engine.sequence import LOCAL_TENANT, PrefixOptions, Sequence, Token
from genkan.engine.statistics import EngineObserver, EngineStatistics, NobodyWatches, StepReport
from genkan.engine.stream import Item, TokenStream, deliver
from genkan.errors import ContextTooLong, EngineFailed, EngineOverloaded, EngineUnavailable

_log = logging.getLogger("genkan.engine")
_Answer = TypeVar("_Answer")
_Outcome = int | None | Exception
_LONGEST_IDLE_S = 3600.0
_DEFAULT_PREFIX = PrefixOptions()


class Runner(Protocol):
    """The model's forward pass; ``engine/model_runner.py`` has the real one."""

    max_model_len: int
    num_blocks: int
    block_size: int

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        """Compute the items' tokens; logits ``[items that want them, vocab]``, float32, in their order."""


class Engine:
    """Generates tokens for many sequences at once, in a thread of its own."""

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        observer: EngineObserver | None = None,
        *,
        clock: Clock | None = None,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """The thread starts at once and lives until ``stop``.

        ``on_broken`` is called, in the engine's thread, if the engine itself fails and can serve nobody any more.
        """
        self._runner = runner
        self._config = config
        self._observer = observer or NobodyWatches()
        self._clock = clock or SystemClock()
        self._on_broken = on_broken
        pool = BlockPool(runner.num_blocks)
        self._pool = pool
        self._cache = PrefixCache(
            pool, block_size=runner.block_size, pin_share=config.pin_share, ttl_s=config.prefix_ttl_s
        )
        self._pace = Pace(config.chunk_slowdown)
        self._scheduler = Scheduler(pool, self._cache, _limits(config), self._pace)
        #: The longest that prompt and answer together may be: the model's window, or all KV memory if that is less.
        self.max_model_len = min(runner.max_model_len, self._scheduler.max_request_tokens)
        self._streams: dict[Sequence, TokenStream] = {}  # of what waits or runs
        self._samplers: dict[Sequence, RowSampler] = {}
        self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._changed = threading.Condition()  # guards what follows
        self._submitted: list[TokenStream] = []
        self._cancelled: list[Sequence] = []
        self._questions: list[_Question[Any]] = []
        self._num_alive = 0  # submitted and not ended
        self._statistics = EngineStatistics(blocks=pool.num_blocks, free_blocks=pool.num_free)
        self._closed: str | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fail what runs and waits with EngineUnavailable and end the thread, at most one step later."""
        with self._changed:
            self._closed = self._closed or "The engine is stopping."
            self._changed.notify()
        self._thread.join(timeout=10)

    def statistics(self) -> EngineStatistics:
        with self._changed:
            return self._statistics

    async def generate(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str = LOCAL_TENANT,
        prefix: PrefixOptions = _DEFAULT_PREFIX,
    ) -> AsyncGenerator[Token, None]:
        """The tokens after ``prompt_ids``, each as soon as it is there; the last has a finish reason.

        The prompt is not empty, and its ids are below the model's vocabulary size. Closing the generator cancels the
        sequence before the next step. Raises ContextTooLong and EngineOverloaded before the first token, ReaderTooSlow
        for a reader that lets ``max_unread_tokens`` pile up, EngineFailed and EngineUnavailable at any time.
        """
        stream = self._submit(prompt_ids, params, tenant, prefix)
        ended = False
        try:
            while not ended:
                token = await stream.next()
                ended = token.finish_reason is not None
                yield token
        finally:
            if not ended:
                self._cancel(stream)

    async def prefix_cache_snapshot(self, max_nodes: int = 2000) -> dict[str, Any]:
        """The prefix cache's trees, as of between two steps (see ``PrefixCache.snapshot``), and its blocks."""

        def look() -> dict[str, Any]:
            blocks = {
                "total": self._pool.num_blocks,
                "free": self._pool.num_free,
                "cached": self._cache.num_pages,
                "running": self._pool.num_blocks - self._pool.num_free - self._cache.num_pages,
            }
            return {"blocks": blocks, **self._cache.snapshot(self._clock.monotonic(), max_nodes)}

        return await self._ask(look)

    async def purge_prefix_cache(self, namespace_prefix: bytes) -> int:
        """Drop all pages of the namespaces that begin so; how many they were. Raises EngineUnavailable."""

        def purge() -> int:
            names = [name for name in self._cache.namespaces() if name.startswith(namespace_prefix)]
            pages = sum(map(self._cache.purge, names))
            self._count()
            return pages

        return await self._ask(purge)

    # The callers' side

    def _submit(self, prompt_ids: Ids[int], params: SamplingParams, tenant: str, prefix: PrefixOptions) -> TokenStream:
        prompt_tokens = len(prompt_ids)
        if prompt_tokens + params.max_tokens > self.max_model_len:
            raise ContextTooLong(
                limit_tokens=self.max_model_len,
                prompt_tokens=prompt_tokens,
                max_tokens=params.max_tokens,
                param="prompt",
            )
        if not self._config.prefix_cache:
            prefix = PrefixOptions(use=False)
        now_s = self._clock.monotonic()
        sequence = Sequence(prompt_ids, params, tenant=tenant, prefix=prefix, now_s=now_s)
        stream = TokenStream(sequence, self._config.max_unread_tokens, self._cancel)
        limit = self._config.max_sequences + self._config.max_waiting
        with self._changed:
            self._check_open()
            if self._num_alive >= limit:
                raise EngineOverloaded(f"The engine is busy: at most {limit} requests may run and wait at once.")
            self._num_alive += 1
            self._submitted.append(stream)
            self._changed.notify()
            self._tell()
        return stream

    def _cancel(self, stream: TokenStream) -> None:
        with self._changed:
            self._cancelled.append(stream.sequence)
            self._changed.notify()

    async def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """What ``question`` gives when the engine's thread calls it, between two steps."""
        asked = _Question(question)
        with self._changed:
            self._check_open()
            self._questions.append(asked)
            self._changed.notify()
        return await asked.answer

    def _check_open(self) -> None:
        if self._closed is not None:
            raise EngineUnavailable(self._closed)

    # The thread's side

    def _run(self) -> None:
        try:
            while self._take_inbox():
                self._step()
        except Exception:  # noqa: BLE001 - a bug; its state can no longer be trusted, so nobody is served from it
            _log.exception("the engine is broken")
            with self._changed:
                self._closed = "The engine is broken; the server's log says why."
            self._fail_all()
            self._on_broken()
        else:
            self._fail_all()

    def _take_inbox(self) -> bool:
        """Wait until there is something to do, and take what callers left; False once the engine is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_mail() or self._streams, self._idle_limit_s())
            if self._closed is not None:
                return False
            submitted, self._submitted = self._submitted, []
            cancelled, self._cancelled = self._cancelled, []
            # First of all: whoever has a stream is told if something breaks the engine from here on.
            self._streams.update((stream.sequence, stream) for stream in submitted)
        for stream in submitted:
            self._samplers[stream.sequence] = RowSampler(stream.sequence.params)
            self._scheduler.submit(stream.sequence)
        for sequence in cancelled:
            self._end(sequence)
        if cancelled:
            self._count()
        while self._questions:  # each stays there until it is answered, for the same reason
            self._questions[0].ask()
            with self._changed:
                del self._questions[0]
        return True

    def _idle_limit_s(self) -> float | None:
        """How long the thread may sleep before pages of the prefix cache have to go."""
        due_s = self._cache.next_expiry_s()
        return None if due_s is None else min(max(due_s - self._clock.monotonic(), 0.01), _LONGEST_IDLE_S)

    def _has_mail(self) -> bool:
        return bool(self._submitted or self._cancelled or self._questions)

    def _step(self) -> None:
        began_s = self._clock.monotonic()
        parts = self._scheduler.plan(began_s)
        if not parts:  # only pages expired, or nothing is left to do after a cancel
            assert not self._streams, "something waits or runs, and the plan is empty"
            self._count()
            return
        self._count()
        # After a preemption what was generated is computed like a prompt, and costs as much.
        num_decodes = sum(part.count == 1 and part.sequence.num_generated > 0 for part in parts)
        prompt_tokens = sum(part.count for part in parts) - num_decodes
        outcomes = self._compute(parts)
        result = _StepResult(self._clock.monotonic())
        try:
            for part, outcome in zip(parts, outcomes, strict=True):
                self._take_outcome(part, outcome, result)
            self._count()
        finally:  # whose sequence has ended gets its last token, whatever breaks
            deliver(result.items)
        step_s = result.now_s - began_s
        self._pace.observe(step_s, num_decodes, prompt_tokens)
        self._observer.stepped(
            StepReport(
                step_s=step_s,
                num_decodes=num_decodes,
                prompt_tokens=prompt_tokens,
                first_token_s=result.first_token_s,
                token_gap_s=result.token_gap_s,
            )
        )

    def _compute(self, parts: list[Scheduled]) -> list[_Outcome]:
        """For each part its next token, None while it is not through its prompt, or why it failed."""
        wanting = [part.sequence for part in parts if part.wants_token]
        try:
            logits = self._runner.forward([_item(part) for part in parts])
            tokens = iter(sample(logits, [(self._samplers[each], each.num_generated) for each in wanting]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails as few sequences as can be
            if len(parts) == 1:
                _log.error("a sequence of %d tokens failed", len(parts[0].sequence.tokens), exc_info=error)
                return [_failed()]
            middle = len(parts) // 2
            return self._compute(parts[:middle]) + self._compute(parts[middle:])
        return [_drawn(next(tokens)) if part.wants_token else None for part in parts]

    def _take_outcome(self, part: Scheduled, outcome: _Outcome, result: "_StepResult") -> None:
        sequence = part.sequence
        stream = self._streams[sequence]
        if isinstance(outcome, Exception):
            self._end(sequence)  # without what this step wrote: it is not to be found in the prefix cache
            result.items.append((stream, outcome))
            return
        self._scheduler.computed(part, result.now_s)
        if outcome is None:
            return
        self._count_token(sequence, result)
        sequence.tokens.append(outcome)
        reason = sequence.finish_reason()
        result.items.append((stream, Token(outcome, reason, sequence.cached_tokens or 0)))
        if reason is not None:
            self._end(sequence)

    def _count_token(self, sequence: Sequence, result: "_StepResult") -> None:
        self._generated_tokens += 1
        if sequence.token_at_s is None:
            self._prompt_tokens += sequence.num_prompt
            self._cached_tokens += sequence.cached_tokens or 0
            result.first_token_s.append(result.now_s - sequence.submitted_s)
        else:
            result.token_gap_s.append(result.now_s - sequence.token_at_s)
        sequence.token_at_s = result.now_s

    def _end(self, sequence: Sequence) -> None:
        """Forget a sequence and free what it holds; nothing for one that has ended before."""
        if self._streams.pop(sequence, None) is None:
            return
        del self._samplers[sequence]
        self._scheduler.finish(sequence, self._clock.monotonic())
        with self._changed:
            self._num_alive -= 1

    def _count(self) -> None:
        """Take a new snapshot of everything."""
        cache = self._cache.statistics()
        statistics = EngineStatistics(
            running=len(self._scheduler.running),
            generated_tokens=self._generated_tokens,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            preemptions=self._scheduler.num_preemptions,
            blocks=self._pool.num_blocks,
            free_blocks=self._pool.num_free,
            cached_pages=cache.pages,
            pinned_pages=cache.pinned_pages,
            evictions=cache.evictions,
            prefix_queries=cache.queries,
            prefix_hits=cache.hits,
        )
        with self._changed:
            self._statistics = statistics
            self._tell()

    def _tell(self) -> None:
        """Bring the snapshot's queue up to date and pass it on. The lock is held."""
        self._statistics = replace(self._statistics, waiting=self._num_alive - self._statistics.running)
        self._observer.changed(self._statistics)

    def _fail_all(self) -> None:
        """The thread ends, and with it everything that waits for it."""
        with self._changed:
            reason = self._closed or "The engine is stopping."
            streams = [*self._streams.values(), *self._submitted]
            questions = list(self._questions)
        for question in questions:
            question.fail(EngineUnavailable(reason))
        deliver((stream, EngineUnavailable(reason)) for stream in streams)
        with self._changed:  # last, as the observer may be what is broken
            self._num_alive = 0
            self._statistics = replace(self._statistics, running=0)
            self._tell()


class _Question(Generic[_Answer]):
    """Something to be called in the engine's thread, and the future of its answer in the asking loop."""

    def __init__(self, call: Callable[[], _Answer]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[_Answer] = self._loop.create_future()

    def ask(self) -> None:
        self._settle(self.answer.set_result, self._call())

    def fail(self, error: Exception) -> None:
        self._settle(self.answer.set_exception, error)

    def _settle(self, how: Callable[[Any], None], value: object) -> None:
        def settle() -> None:
            if not self.answer.done():  # the asker may have given up
                how(value)

        with contextlib.suppress(RuntimeError):  # its loop has closed
            self._loop.call_soon_threadsafe(settle)


class _StepResult:
    """What comes of a step, collected sequence by sequence."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.items: list[tuple[TokenStream, Item]] = []
        self.first_token_s: list[float] = []
        self.token_gap_s: list[float] = []


def _limits(config: EngineConfig) -> Limits:
    return Limits(
        max_batched_tokens=config.max_batched_tokens,
        max_sequences=config.max_sequences,
        chunked_prefill=config.chunked_prefill,
        preemption=config.preemption == "recompute",
    )


def _item(part: Scheduled) -> BatchItem:
    sequence, start = part.sequence, part.sequence.num_computed
    return BatchItem(sequence.tokens[start : start + part.count], start, sequence.blocks, part.wants_token)


def _drawn(token: int | None) -> _Outcome:
    if token is None:
        _log.error("a sequence failed: its logits are no numbers")
        return _failed()
    return token


def _failed() -> EngineFailed:
    return EngineFailed("The engine failed on this request.")
