"""The engine's async face: token ids in, tokens out, one thread that owns model, scheduler and caches.

Callers and the thread share an inbox, nothing else. Before each step the thread takes what lies there: new requests,
cancels, questions about the prefix cache. After it, every event loop is woken once for all the tokens that its readers
got.

What fails is contained: a sequence, with its request; else everyone, and then the process is to be started again. That
is so when the engine's own state cannot be trusted, when the model computes nothing any more, and when a step hangs.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Ids
from typing import Any

import torch

from genkan.clock import Clock, SystemClock
from genkan.engine.batch import BatchItem
from genkan.engine.block_pool import BlockPool
from genkan.engine.client import Capability
from genkan.engine.config import EngineConfig
from genkan.engine.failed_steps import FailedSteps
from genkan.engine.host_copies import HostCopies
from genkan.engine.inbox import Inbox
from genkan.engine.pace import Pace
from genkan.engine.plan import Scheduled
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.request import MAX_ANSWERS, Compiled, GrammarCompiler, Request
from genkan.engine.runner import Runner, Swaps
from genkan.engine.sampler import Drawn, RowSampler
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduler
from genkan.engine.sequence import LOCAL_TENANT, PrefixOptions, Sequence, Token
from genkan.engine.statistics import EngineObserver, EngineStatistics, NobodyWatches
from genkan.engine.step import Outcome, compute, failed
from genkan.engine.step_result import StepResult
from genkan.engine.stream import deliver
from genkan.engine.turns import Turns
from genkan.engine.watchdog import Watchdog
from genkan.errors import ContextTooLong, EngineFailed, EngineUnavailable, InvalidRequest, UnsupportedOption

_log = logging.getLogger("genkan.engine")
_LONGEST_IDLE_S = 3600.0
_OFF_LOOP_TOKENS = 100  # a grammar takes 5 µs for each
_DEFAULT_PREFIX = PrefixOptions()
_GRAMMARS = frozenset({Capability.JSON, Capability.REGEX, Capability.CHOICE, Capability.GRAMMAR})


class Engine:
    """Generates tokens for many sequences at once, in a thread of its own. An EngineClient."""

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        observer: EngineObserver | None = None,
        *,
        grammars: GrammarCompiler | None = None,
        clock: Clock | None = None,
        turns: Turns | None = None,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """The thread starts at once and lives until ``stop``. ``turns`` are those of all engines on this machine.

        ``on_broken`` is called once, in a thread of the engine's, if it can serve nobody any more.
        """
        self._runner = runner
        self._config = config
        self._observer = observer or NobodyWatches()
        self._grammars = grammars
        self._clock = clock or SystemClock()
        self._turns = Turns() if turns is None else turns  # nobody in line is falsy
        self._on_broken = on_broken
        pool = BlockPool(runner.num_blocks)
        self._pool = pool
        self._copies = HostCopies(runner if config.preemption == "swap" and isinstance(runner, Swaps) else None)
        self._host = BlockPool(self._copies.num_blocks)
        self._cache = PrefixCache(
            pool, block_size=runner.block_size, pin_share=config.pin_share, ttl_s=config.prefix_ttl_s
        )
        self._pace = Pace(config.chunk_slowdown)
        self._scheduler = Scheduler(pool, self._cache, _limits(config), self._pace, self._host)
        self._failures = FailedSteps(self._forward, self._scheduler, config.max_failed_steps, self._clock)
        #: The longest that prompt and answer together may be: the model's window, or all KV memory if that is less.
        self.max_model_len = min(runner.max_model_len, self._scheduler.max_request_tokens)
        self._requests: dict[Sequence, Request] = {}  # of what waits or runs
        self._samplers: dict[Sequence, RowSampler] = {}
        self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._waited_s = 0.0  # for the step's turns
        max_alive = config.max_sequences + config.max_waiting
        self._inbox = Inbox(max_alive, self._observer, self._counted())
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._watchdog = Watchdog(config.step_timeout_s, self._clock, self._hangs)
        self._watchdog.start()
        self._thread.start()

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability) if self._grammars is not None else frozenset(Capability) - _GRAMMARS

    def stop(self) -> None:
        """Fail what runs and waits with EngineUnavailable and end the thread, at most one step later."""
        self._inbox.close("The engine is stopping.")
        self._thread.join(timeout=10)
        self._watchdog.stop()

    def statistics(self) -> EngineStatistics:
        return self._inbox.statistics()

    async def generate(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str = LOCAL_TENANT,
        prefix: PrefixOptions = _DEFAULT_PREFIX,
        n: int = 1,
        priority: int = 0,
    ) -> AsyncGenerator[Token, None]:
        """See EngineClient. Of several answers, one that fails takes the others with it.

        Those of a seeded request differ from each other, and the first is that of ``n=1``. ``cached_tokens`` are the
        first's: the others find most of their prompt because it was there.
        """
        self._check_size(len(prompt_ids), params.max_tokens, n)
        self._inbox.check_open()
        request = Request(
            prompt_ids,
            params,
            tenant=tenant,
            prefix=prefix if self._config.prefix_cache else PrefixOptions(use=False),
            n=n,
            priority=priority,
            now_s=self._clock.monotonic(),  # what is compiled from here on is part of the wait
            grammar=await self._grammar_of(params, prompt_ids),
        )
        stream = request.open_stream(self._config.max_unread_tokens, self._inbox.cancel)
        self._inbox.submit(request)
        left = n
        try:
            while left:
                token = await stream.next()
                left -= token.finish_reason is not None
                yield token
        finally:
            if left:
                self._inbox.cancel(request)

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

        return await self._inbox.ask(look)

    async def purge_prefix_cache(self, namespace_prefix: bytes) -> int:
        """Drop all pages of the namespaces that begin so; how many they were. Raises EngineUnavailable."""

        def purge() -> int:
            names = [name for name in self._cache.namespaces() if name.startswith(namespace_prefix)]
            pages = sum(map(self._cache.purge, names))
            self._inbox.publish(self._counted())
            return pages

        return await self._inbox.ask(purge)

    async def check(self) -> None:
        """Assert what must hold between two steps; what does not breaks the engine. For tests. O(blocks)."""
        await self._inbox.ask(self._scheduler.check)

    def _check_size(self, prompt_tokens: int, max_tokens: int, n: int) -> None:
        if not 1 <= n <= MAX_ANSWERS:
            raise InvalidRequest(f"'n' must be from 1 to {MAX_ANSWERS}; given: {n}", param="n")
        if prompt_tokens + max_tokens > self.max_model_len:
            raise ContextTooLong(
                limit_tokens=self.max_model_len, prompt_tokens=prompt_tokens, max_tokens=max_tokens, param="prompt"
            )

    async def _grammar_of(self, params: SamplingParams, prompt_ids: Ids[int]) -> Compiled | None:
        """The grammar of what is to come. A long text that it goes on from is looked through in a thread."""
        if params.grammar is None:
            return None
        if self._grammars is None:
            raise UnsupportedOption("response_format", "this engine has no grammars.")
        grammar = await self._grammars.compiled(params.grammar)
        if not params.continued:
            return grammar
        begun = prompt_ids[len(prompt_ids) - params.continued :]
        return grammar.after(begun) if len(begun) <= _OFF_LOOP_TOKENS else await asyncio.to_thread(grammar.after, begun)

    # The thread

    def _run(self) -> None:
        try:
            while self._take_mail():
                self._step()
        except Exception:  # noqa: BLE001 - a bug; its state can no longer be trusted, so nobody is served from it
            _log.exception("the engine is broken")
            self._break("The engine is broken; the server's log says why.")
        else:
            self._fail_all()

    def _hangs(self) -> None:
        """Called by the watchdog, in its thread, while the engine's own is lost in a step."""
        _log.critical("a step of the engine takes longer than %s s", self._config.step_timeout_s)
        self._break("The engine is broken: it hangs.")

    def _break(self, reason: str) -> None:
        is_news = self._inbox.close(reason)
        self._fail_all()
        if is_news:
            self._on_broken()

    def _fail_all(self) -> None:
        """The thread ends, and with it everything that waits for it."""
        left = self._inbox.fail_all()
        reason = self._inbox.closed or ""
        requests = {*list(self._requests.values()), *left}
        deliver((request.stream, EngineUnavailable(reason)) for request in requests)
        self._inbox.publish_end()  # last, as the observer may be what is broken

    def _take_mail(self) -> bool:
        """Wait until there is something to do, and take what callers left; False once the engine is to end."""
        mail = self._inbox.take(is_idle=not self._requests, limit_s=self._idle_limit_s)
        if mail is None:
            return False
        for request in mail.submitted:  # first all of them, so that they are told if something breaks from here on
            self._requests.update(dict.fromkeys(request.sequences, request))
        for request in mail.submitted:
            self._begin(request)
        for request in mail.cancelled:
            self._end_all(request)
        if mail.cancelled:
            self._inbox.publish(self._counted())
        self._inbox.answer_questions()
        return True

    def _idle_limit_s(self) -> float | None:
        """How long the thread may sleep before pages of the prefix cache have to go."""
        due_s = self._cache.next_expiry_s()
        return None if due_s is None else min(max(due_s - self._clock.monotonic(), 0.01), _LONGEST_IDLE_S)

    def _begin(self, request: Request) -> None:
        try:
            samplers = {sequence: request.sampler(sequence) for sequence in request.sequences}
        except Exception as error:  # noqa: BLE001 - it is this request's options that are wrong
            _log.error("a request's options cannot be followed", exc_info=error)
            self._end_all(request)
            deliver([(request.stream, failed())])
            return
        self._samplers.update(samplers)
        for sequence in request.sequences:
            self._scheduler.submit(sequence)

    def _step(self) -> None:
        began_s, self._waited_s = self._clock.monotonic(), 0.0
        plan = self._scheduler.plan(began_s)
        self._inbox.publish(self._counted())
        if not plan.parts:  # only pages expired, or nothing is left to do after a cancel
            assert not self._requests, "something waits or runs, and the plan is empty"
            return
        with self._watchdog:
            parts = self._copies.make(plan, self._scheduler, began_s)
            result = StepResult(parts)
            outcomes = compute(self._forward, parts, self._samplers) if parts else []
        result.now_s = self._clock.monotonic()
        try:
            for part, outcome in zip(parts, outcomes, strict=True):
                self._take_outcome(part, outcome, result)
            self._inbox.publish(self._counted())
        finally:  # whose sequence has ended gets its last token, whatever breaks
            deliver(result.items)
        report = result.report(began_s + self._waited_s)
        self._pace.observe(report.step_s, report.num_decodes, report.prompt_tokens)
        self._observer.stepped(report)
        with self._watchdog:
            self._failures.note(outcomes, result.now_s)

    def _forward(self, items: list[BatchItem]) -> torch.Tensor:
        """One pass, in the engine's turn. Others' are no part of the step: neither of its time nor of its hanging."""
        asked_s = self._clock.monotonic()
        self._watchdog.pause()
        with self._turns.turn():
            self._watchdog.resume()
            self._waited_s += self._clock.monotonic() - asked_s
            return self._runner.forward(items)

    def _take_outcome(self, part: Scheduled, outcome: Outcome, result: StepResult) -> None:
        request = self._requests.get(part.sequence)
        if request is None:
            return  # another answer to the same prompt has failed in this step
        if isinstance(outcome, EngineFailed):
            # Without what this step wrote: it is not to be found in the prefix cache.
            self._end_all(request)
            result.items.append((request.stream, outcome))
            return
        self._scheduler.computed(part, result.now_s)
        if outcome is not None:
            self._take_token(part.sequence, request, outcome, result)

    def _take_token(self, sequence: Sequence, request: Request, drawn: Drawn, result: StepResult) -> None:
        first = request.sequences[0]
        self._generated_tokens += 1
        scores = None
        if sequence is first and sequence.token_at_s is None:
            self._prompt_tokens += sequence.num_prompt
            self._cached_tokens += sequence.cached_tokens or 0
            scores = [None, *sequence.prompt_logprobs] if sequence.params.prompt_logprobs is not None else None
        result.drawn(sequence)
        sequence.tokens.append(drawn.token)
        reason = sequence.finish_reason(closed=drawn.closed)
        cached = first.cached_tokens or 0
        token = Token(drawn.token, reason, cached, sequence.answer, drawn.logprobs, scores)
        result.items.append((request.stream, token))
        if reason is not None:
            self._end(sequence)

    def _end_all(self, request: Request) -> None:
        for sequence in request.sequences:
            self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        """Forget a sequence and free what it holds; nothing for one that has ended before."""
        request = self._requests.pop(sequence, None)
        if request is None:
            return
        self._samplers.pop(sequence, None)
        self._scheduler.finish(sequence, self._clock.monotonic())
        request.num_alive -= 1
        if request.namespace is not None and not request.num_alive:
            self._cache.purge(request.namespace)
        self._inbox.ended(1)

    def _counted(self) -> EngineStatistics:
        """A new snapshot of everything, but of how many wait."""
        cache = self._cache.statistics()
        return EngineStatistics(
            running=len(self._scheduler.running),
            generated_tokens=self._generated_tokens,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            preemptions=self._scheduler.num_preemptions,
            swaps=self._scheduler.num_swaps,
            failed_steps=self._failures.num_failed,
            blocks=self._pool.num_blocks,
            free_blocks=self._pool.num_free,
            host_blocks=self._host.num_blocks,
            free_host_blocks=self._host.num_free,
            cached_pages=cache.pages,
            pinned_pages=cache.pinned_pages,
            evictions=cache.evictions,
            prefix_queries=cache.queries,
            prefix_hits=cache.hits,
        )


def _limits(config: EngineConfig) -> Limits:
    return Limits(
        max_batched_tokens=config.max_batched_tokens,
        max_sequences=config.max_sequences,
        chunked_prefill=config.chunked_prefill,
        preemption=config.preemption != "off",
    )
