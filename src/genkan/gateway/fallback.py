"""One request's way along a chain, up to the first deployment that answers.

1. Each deployment is asked once, in order, but for those that are being left alone.
2. Nobody answered: those that only a breaker or health probes advised against are asked after all, one request at a
   time each. A guess must not be the reason why a healthy deployment is not asked.
3. Still nobody: a deployment whose failure may be over in a moment is asked again, after a wait with full jitter, or
   as long as it said itself, within the route's retry budget.

All of it has one deadline. What each error means stands in `rules.py`. An error that says the request is wrong goes to
the client at once, unless another deployment failed before: then it may only mean that this one cannot do what the
other could, and the client gets the error of the one that failed.

After the first piece of an answer has been given to the client there is no way back: what fails then is told in the
stream.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from genkan.clock import Clock
from genkan.errors import NoUpstream, TimedOut, UpstreamError, UpstreamThrottled
from genkan.gateway.breaker import Attempt
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.observer import GatewayObserver
from genkan.gateway.retry import Backoff, wait_s
from genkan.gateway.rules import Verdict, verdict
from genkan.gateway.standing import PARKED_S
from genkan.upstream.base import Answer
from genkan.wire.chat import GenerationRequest

Sleep = Callable[[float], Awaitable[None]]
_log = logging.getLogger("genkan.gateway")


class Fallback:
    """Walks chains."""

    def __init__(self, clock: Clock, observer: GatewayObserver, sleep: Sleep = asyncio.sleep) -> None:
        self.clock = clock
        self.observer = observer
        self.sleep = sleep

    async def respond(self, chain: Chain, request: GenerationRequest) -> tuple[Answer, "Walk"]:
        """An answer that has begun, and how it came about. Raises RequestError; ``error.attempts`` counts attempts."""
        walk = Walk(self, chain, request)
        try:
            return await walk.to_answer(), walk
        except UpstreamError as error:
            error.attempts = walk.attempts
            raise
        finally:
            await walk.aclose()


class Walk:
    """The way of one request: whom it asked, and what came of it."""

    def __init__(self, fallback: Fallback, chain: Chain, request: GenerationRequest) -> None:
        self._clock = fallback.clock
        self._observer = fallback.observer
        self._sleep = fallback.sleep
        self._chain = chain
        self._request = request
        self._began_s = self._clock.monotonic()
        self._deadline_s = self._began_s + chain.config.total_s
        self._failures: list[tuple[Deployment, UpstreamError, Verdict]] = []
        self._passed_over: list[Deployment] = []
        self._filtered: tuple[Deployment, Answer] | None = None  # for want of a better one
        self.attempts = 0
        self.answered_by: Deployment | None = None

    @property
    def fell_back_because(self) -> str | None:
        """The code of the first failure; ``unavailable`` if another was passed over; None if the first one answered."""
        if self._failures:
            return self._failures[0][1].code or self._failures[0][1].type
        return "unavailable" if self._passed_over else None

    async def to_answer(self) -> Answer:
        """See Fallback."""
        self._chain.budget.requested(self._began_s)
        for deployment in self._chain.order():
            if (answer := await self._ask(deployment, deployment.begin)) is not None:
                return answer
        passed_over, self._passed_over = self._passed_over, []
        for deployment in passed_over:
            if (answer := await self._ask(deployment, deployment.begin_as_last)) is not None:
                return answer
        answer = self._take_filtered() or await self._retried()
        if answer is not None:
            return answer
        raise self._exhausted()

    async def aclose(self) -> None:
        """Let go of an answer that was not needed."""
        if self._filtered is not None:
            await self._filtered[1].aclose()

    async def _ask(self, deployment: Deployment, begin: Callable[[float], Attempt | None]) -> Answer | None:
        if not self._suits(deployment):
            return None
        now_s = self._clock.monotonic()
        if (left_s := self._deadline_s - now_s) <= 0:
            raise TimedOut(upstream=deployment.upstream.name, phase="total", limit_s=self._chain.config.total_s)
        attempt = begin(now_s)
        if attempt is None:
            self._passed_over.append(deployment)
            return None
        if self._failures and self._failures[-1][0] is not deployment:
            self._observer.fell_back(self._chain.name, self._failures[-1][1].code or "error")
        self.attempts += 1
        underway = _Underway(deployment, attempt, now_s, self._clock, self._observer)
        try:
            answer = await deployment.upstream.respond(self._request, deployment.name_there, total_s=left_s)
        except UpstreamError as error:
            self._judge(deployment, error, underway)
            return None
        except BaseException:
            underway.abandoned()
            raise
        if answer.filtered and self._filtered is None and "content_filter" in self._chain.config.fallback_on:
            underway.succeeded()
            self._filtered = deployment, answer
            return None
        self.answered_by = deployment
        return underway.begun(answer)

    def _suits(self, deployment: Deployment) -> bool:
        """A prompt that was too long for one window can only fit a larger one."""
        return all(
            _is_larger(deployment, asked)
            for asked, _, meaning in self._failures
            if meaning.reason == "context_too_long"
        )

    def _judge(self, deployment: Deployment, error: UpstreamError, underway: "_Underway") -> None:
        meaning = verdict(error)
        underway.failed(error, meaning)
        now_s = self._clock.monotonic()
        if meaning.cools:
            deployment.cooling.until(now_s, error.retry_after_s)
        if meaning.parks:
            deployment.standing.park(error, now_s + PARKED_S)
        self._failures.append((deployment, error, meaning))
        is_request = meaning.reason == "request" or meaning.reason not in self._chain.config.fallback_on
        if is_request and all(earlier.reason != "error" for _, _, earlier in self._failures[:-1]):
            raise error

    def _take_filtered(self) -> Answer | None:
        if self._filtered is None:
            return None
        (self.answered_by, answer), self._filtered = self._filtered, None
        return answer

    async def _retried(self) -> Answer | None:
        """The answer of one that was asked before, if there is one to ask again, and it is worth the wait."""
        retry = self._chain.config.retry
        backoff = Backoff(retry.backoff_s, retry.max_backoff_s)
        for _ in range(retry.max_retries):
            if (found := self._worth_asking_again()) is None:
                return None
            deployment, error = found
            now_s = self._clock.monotonic()
            pause_s = wait_s(
                error.retry_after_s, backoff.next_s(), self._deadline_s - now_s, max_wait_s=retry.max_wait_s
            )
            if pause_s is None or not self._chain.budget.take(now_s):
                return None
            await self._sleep(pause_s)
            self._observer.retried(deployment.name)
            if (answer := await self._ask(deployment, deployment.begin)) is not None:
                return answer
        return None

    def _worth_asking_again(self) -> tuple[Deployment, UpstreamError] | None:
        """The first of the chain whose last failure may be over soon, and whose breaker has not opened by it."""
        last = {deployment.name: (deployment, error, meaning) for deployment, error, meaning in self._failures}
        now_s = self._clock.monotonic()
        for deployment, error, meaning in last.values():
            if meaning.again and deployment.breaker.admits(now_s):
                return deployment, error
        return None

    def _exhausted(self) -> UpstreamError | NoUpstream:
        """The error that tells the client most: of a failure, not a refusal; of what will pass, not of our account."""
        now_s = self._clock.monotonic()
        candidates = [error for _, error, meaning in self._failures if meaning.reason == "error" and not meaning.parks]
        candidates += [error for _, error, _ in reversed(self._failures)]
        error = candidates[0] if candidates else self._nobody_asked(now_s)
        if error.status in (429, 503):
            waits_s = [e.retry_after_s for _, e, _ in self._failures if e.retry_after_s is not None]
            error.retry_after_s = min(waits_s, default=error.retry_after_s)
        error.should_retry = None if error.retry_after_s is not None else False
        return error

    def _nobody_asked(self, now_s: float) -> UpstreamError | NoUpstream:
        everyone = self._chain.order()
        if cooling := [left_s for one in everyone if (left_s := one.cooling.left_s(now_s))]:
            return UpstreamThrottled(upstream=everyone[0].upstream.name, retry_after_s=min(cooling))
        parked = [one.standing.parked_by(now_s) for one in everyone]
        if (first := parked[0]) is not None and all(parked):
            return first
        soonest_s = min(one.available_in_s(now_s) for one in everyone)
        return NoUpstream(self._request.model, retry_after_s=max(soonest_s, 1.0))


class _Underway:
    """An attempt whose end is told to its breaker and to the observer, once."""

    __slots__ = ("_attempt", "_began_s", "_clock", "_deployment", "_is_over", "_observer")

    def __init__(
        self, deployment: Deployment, attempt: Attempt, began_s: float, clock: Clock, observer: GatewayObserver
    ) -> None:
        self._deployment = deployment
        self._attempt = attempt
        self._began_s = began_s
        self._clock = clock
        self._observer = observer
        self._is_over = False

    def begun(self, answer: Answer) -> Answer:
        """``answer``, followed to its end."""
        if answer.batches is None:
            self.succeeded()
            return answer
        now_s = self._clock.monotonic()
        self._observer.first_token(self._deployment.name, now_s - self._began_s)
        if self._attempt.probe:
            self._attempt.succeeded(now_s)  # a long answer must not keep everybody else waiting
        inner = answer.batches
        answer.batches = self._followed(inner)
        answer.on_close(self._closed)
        answer.on_close(inner.aclose)
        return answer

    def succeeded(self) -> None:
        self._attempt.succeeded(self._ended("ok"))

    def failed(self, error: UpstreamError, meaning: Verdict) -> None:
        # What an upstream calls a fault of the request is its own word, and there may be any number of those.
        now_s = self._ended("refused" if meaning.reason == "request" else error.code or error.type)
        if meaning.failure:
            self._attempt.failed(now_s)
        else:
            self._attempt.ignored(now_s)
        if meaning.reason == "error":
            _log.warning("%s failed: %s%s", self._deployment.name, error.message, _because(error))

    def abandoned(self) -> None:
        """The client went away."""
        self._attempt.ignored(self._ended("client_gone"))

    def _ended(self, outcome: str) -> float:
        now_s = self._clock.monotonic()
        if not self._is_over:
            self._is_over = True
            self._observer.attempted(self._deployment.name, outcome, now_s - self._began_s)
        return now_s

    async def _followed(self, batches: AsyncGenerator[list[bytes], None]) -> AsyncGenerator[list[bytes], None]:
        try:
            async for batch in batches:
                yield batch
        except UpstreamError as error:
            self.failed(error, verdict(error))
            raise
        self.succeeded()

    async def _closed(self) -> None:
        if not self._is_over:
            self.abandoned()


def _is_larger(one: Deployment, other: Deployment) -> bool:
    """Whether ``one`` may take a prompt that ``other`` could not; windows that are not known may be larger."""
    if one.model == other.model:
        return False
    return one.context_tokens is None or other.context_tokens is None or one.context_tokens > other.context_tokens


def _because(error: UpstreamError) -> str:
    return f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ is not None else ""
