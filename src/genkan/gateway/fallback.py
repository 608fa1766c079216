"""One request's way along a chain, up to the first deployment that answers.

1. Each deployment is asked once, in order, but for those that are being left alone.
2. Nobody answered: those that only a breaker or health probes advised against are asked after all; while a breaker is
   open that is one request at a time, or one a second while it takes long. A guess must not be the reason why a healthy
   deployment is not asked.
3. Still nobody: a deployment whose failure may be over in a moment is asked again, after a wait with full jitter, or
   as long as it said itself, within the route's retry budget.

All of it has one deadline. What each error means stands in `rules.py`. An error that says the request is wrong goes to
the client at once, but for two cases in which it may only mean that this deployment cannot do what another could: one
failed before, or gave an answer that a filter emptied, and the client gets what that one gave; or an option is not
supported here while another deployment is being left alone, and the client is told to come back.

After the first piece of an answer has been given to the client there is no way back: what fails then is told in the
stream.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable

from genkan.clock import Clock
from genkan.errors import (
    InvalidRequest,
    NoUpstream,
    RequestError,
    TimedOut,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamThrottled,
)
from genkan.gateway.breaker import FORCED_EVERY_S, Attempt
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.meter import Limited, Meter
from genkan.gateway.observer import GatewayObserver
from genkan.gateway.recorder import UNRECORDED, Recorder
from genkan.gateway.reservations import Reservation
from genkan.gateway.retry import Backoff, wait_s
from genkan.gateway.rules import Verdict, verdict
from genkan.gateway.standing import PARKED_S
from genkan.gateway.underway import Underway, outcome_of
from genkan.store.accounts import Amounts
from genkan.upstream.base import Answer
from genkan.wire.answers import MAX_HELD_BYTES
from genkan.wire.chat import GenerationRequest

Sleep = Callable[[float], Awaitable[None]]
#: What servers say of an option that is right elsewhere.
_UNSUPPORTED = frozenset({"unsupported_parameter", "unsupported_value"})
_LATER_S = 5.0  # where nobody said when to come back


class Fallback:
    """Walks chains."""

    def __init__(self, clock: Clock, observer: GatewayObserver, sleep: Sleep = asyncio.sleep) -> None:
        self.clock = clock
        self.observer = observer
        self.sleep = sleep

    async def respond(
        self, chain: Chain, request: GenerationRequest, recorder: Recorder = UNRECORDED
    ) -> tuple[Answer, "Walk"]:
        """An answer that has begun, and how it came about. Raises RequestError; ``error.attempts`` counts attempts."""
        walk = Walk(self, chain, request, recorder)
        try:
            answer = await walk.to_answer()
        except BaseException as error:
            if isinstance(error, RequestError):
                error.attempts = walk.attempts or None
            walk.forget()
            await walk.let_go()
            raise
        if walk.filtered is not None:
            try:
                await walk.let_go()
            except BaseException:  # cancelled, and nobody else knows of the answer yet
                await answer.aclose()
                raise
        return answer, walk


class Walk:
    """The way of one request: whom it asked, and what came of it."""

    __slots__ = (
        "_began_s", "_chain", "_clock", "_deadline_s", "_failures", "_fallback", "_first", "_is_late", "_limited_s",
        "_passed_over", "_reasons", "_recorder", "_request", "answered_by", "answering", "attempts", "filtered",
    )  # fmt: skip

    def __init__(self, fallback: Fallback, chain: Chain, request: GenerationRequest, recorder: Recorder) -> None:
        self._fallback = fallback
        self._clock = fallback.clock
        self._chain = chain
        self._request = request
        self._recorder = recorder
        self._began_s = fallback.clock.monotonic()
        self._deadline_s = self._began_s + chain.config.total_s
        self._failures: list[tuple[Deployment, UpstreamError, Verdict]] = []
        self._passed_over: list[Deployment] = []
        self.filtered: tuple[Deployment, Answer, int] | None = None  # for want of a better one
        self._limited_s: list[float] = []  # when limits that kept somebody from being asked leave room; inf: never
        self._first: Deployment | None = None
        self._reasons: list[str] = []  # why each in turn was not the one that answers
        self._is_late = False  # somebody was not asked for want of time
        self.attempts = 0
        self.answered_by: Deployment | None = None
        self.answering = 0  # the number of the attempt that did

    @property
    def fell_back_because(self) -> str | None:
        """Why the first in turn did not answer; None if it did.

        The code of its error, ``content_filter``, or ``unavailable`` if it was passed over.
        """
        return self._reasons[0] if self.answered_by is not self._first and self._reasons else None

    async def to_answer(self) -> Answer:
        """See Fallback."""
        self._chain.budget.requested(self._began_s)
        order = self._chain.order()
        self._first = order[0]
        for deployment in order:
            if (answer := await self._ask(deployment)) is not None:
                return answer
        passed_over, self._passed_over = self._passed_over, []
        for deployment in passed_over:
            if (answer := await self._ask(deployment, as_last=True)) is not None:
                return answer
        answer = self._take_filtered() or await self._retried()
        if answer is not None:
            return answer
        raise self._exhausted()

    def forget(self) -> None:
        """Drop the failures: an error knows the frames it passed, and through them this walk, which knows the error."""
        self._failures.clear()

    async def let_go(self) -> None:
        """Close the answer that was kept for want of a better one and is not needed."""
        if self.filtered is not None:
            await self.filtered[1].aclose()

    async def _ask(self, deployment: Deployment, *, as_last: bool = False) -> Answer | None:
        if self._failures and not self._suits(deployment):
            return None
        now_s = self._clock.monotonic()
        if (left_s := self._deadline_s - now_s) <= 0:
            self._is_late = deployment.standing.parked_by(now_s) is None
            return None
        room: Reservation | None = None
        if deployment.meter is not None and _may_be_asked(deployment, now_s, as_last):
            room = await self._room(deployment.meter, left_s)
            if room is None:
                return None
            now_s = self._clock.monotonic()
            left_s = max(self._deadline_s - now_s, 0.001)
        attempt = deployment.begin_as_last(now_s) if as_last else deployment.begin(now_s)
        if attempt is None:
            if room is not None and deployment.meter is not None:
                deployment.meter.leave(room, Amounts(0, 0))
            self._passed_over.append(deployment)
            self._reasons.append("unavailable")
            return None
        if self._reasons:
            self._tell_the_observer(deployment)
        return await self._sent(deployment, attempt, room, now_s, left_s)

    async def _room(self, meter: Meter, left_s: float) -> Reservation | None:
        """Room within what an upstream allows us; None if there is none in time."""
        recorder = self._recorder
        try:
            return await meter.enter(
                recorder.request_id, recorder.amounts_within(meter.plan), left_s=left_s, redis_left=recorder.redis_left
            )
        except Limited as limited:
            self._limited_s.append(math.inf if limited.retry_after_s is None else limited.retry_after_s)
            self._reasons.append("limited")
            return None

    async def _sent(
        self, deployment: Deployment, attempt: Attempt, room: Reservation | None, now_s: float, left_s: float
    ) -> Answer | None:
        self.attempts = number = self.attempts + 1
        call = self._recorder.attempt_begun(deployment, number, room)
        underway = Underway(deployment, attempt, now_s, self._clock, self._fallback.observer, self._recorder, number)
        try:
            answer = await deployment.upstream.respond(self._request, deployment.name_there, total_s=left_s, call=call)
            if is_filtered := answer.filtered and "content_filter" in self._chain.config.fallback_on:
                await self._keep(deployment, answer)
        except UpstreamError as error:
            self._judge(deployment, error, underway, left_s)
            return None
        except BaseException as error:
            underway.abandoned(error)
            raise
        if is_filtered:
            underway.succeeded(answer)
            return None
        self.answered_by, self.answering = deployment, number
        return underway.begun(answer)

    def _tell_the_observer(self, asked: Deployment) -> None:
        if any(failed is asked for failed, _, _ in self._failures):
            self._fallback.observer.retried(asked.name)
        elif asked is not self._first:
            self._fallback.observer.fell_back(self._chain.name, self._reasons[-1])

    async def _keep(self, deployment: Deployment, filtered: Answer) -> None:
        """Hold back an answer that a content filter emptied; the first such is as good as any.

        It is read to its end, so that it holds no place that another deployment may need. Raises UpstreamError.
        """
        try:
            if self.filtered is None:
                number = self.attempts
                whole = await _read_out(filtered, lambda batch: self._recorder.priced(number, batch, filtered))
                self.filtered = deployment, whole, number
        finally:
            await filtered.aclose()
        self._reasons.append("content_filter")

    def _suits(self, deployment: Deployment) -> bool:
        """A prompt that was too long for one window can only fit a larger one."""
        return all(
            _is_larger(deployment, asked)
            for asked, _, meaning in self._failures
            if meaning.reason == "context_too_long"
        )

    def _judge(self, deployment: Deployment, error: UpstreamError, underway: Underway, left_s: float) -> None:
        meaning = verdict(error)
        half_s = self._chain.config.total_s / 2
        if isinstance(error, TimedOut) and error.phase == "total" and left_s <= min(error.limit_s, half_s):
            meaning = Verdict("error")  # it was given what others had left of the time, which says nothing of it
        underway.failed(error, meaning)
        now_s = self._clock.monotonic()
        if meaning.cools:
            deployment.cooling.until(now_s, error.retry_after_s)
        if meaning.parks:
            deployment.standing.park(error, now_s + PARKED_S)
        self._failures.append((deployment, error.with_traceback(None), meaning))
        self._reasons.append(outcome_of(error, meaning))
        is_request = meaning.reason == "request" or meaning.reason not in self._chain.config.fallback_on
        others_failed = any(one.reason == "error" for _, _, one in self._failures[:-1])
        another_could = error.code in _UNSUPPORTED and self._somebody_rests(now_s)
        if is_request and not (others_failed or another_could or self.filtered):
            raise error

    def _somebody_rests(self, now_s: float) -> bool:
        """Whether one was passed over that may be asked in a while; who is parked for its key may not."""
        return any(one.standing.parked_by(now_s) is None for one in self._passed_over)

    def _take_filtered(self) -> Answer | None:
        if self.filtered is None:
            return None
        (self.answered_by, answer, self.answering), self.filtered = self.filtered, None
        return answer

    async def _retried(self) -> Answer | None:
        """The answer of one that was asked before, if there is one to ask again, and it is worth the wait."""
        retry = self._chain.config.retry
        backoff = Backoff(retry.backoff_s, retry.max_backoff_s)
        for _ in range(retry.max_retries):
            now_s = self._clock.monotonic()
            found = self._worth_asking_again(now_s, backoff.next_s())
            if found is None or not self._chain.budget.take(now_s):
                return None
            deployment, pause_s = found
            await self._fallback.sleep(pause_s)
            if (answer := await self._ask(deployment)) is not None:
                return answer
        return None

    def _worth_asking_again(self, now_s: float, backoff_s: float) -> tuple[Deployment, float] | None:
        """The first that was asked whose last failure may be over soon, and in how many seconds to ask it."""
        last = {deployment.name: (deployment, error, meaning) for deployment, error, meaning in self._failures}
        left_s, max_wait_s = self._deadline_s - now_s, self._chain.config.retry.max_wait_s
        for deployment, error, meaning in last.values():
            if not meaning.again or not deployment.is_well(now_s):
                continue
            # What other errors say of coming back is our own advice to clients.
            said_s = error.retry_after_s if isinstance(error, UpstreamFailed) else None
            pause_s = wait_s(deployment.cooling.left_s(now_s) or said_s, backoff_s, left_s, max_wait_s=max_wait_s)
            if pause_s is not None:
                return deployment, pause_s
        return None

    def _exhausted(self) -> RequestError:
        """The error that tells the client most: of a failure, not a refusal; of what will pass, not of our account."""
        now_s = self._clock.monotonic()
        candidates = [error for _, error, meaning in self._failures if meaning.reason == "error" and not meaning.parks]
        candidates += [error for _, error, _ in reversed(self._failures)]
        resting = self._somebody_rests(now_s)
        if self._is_late:
            error: RequestError = TimedOut(upstream="", phase="total", limit_s=self._chain.config.total_s)
        elif candidates and not (resting and all(meaning.reason == "request" for _, _, meaning in self._failures)):
            error = candidates[0]
        else:
            error = self._nobody_asked(now_s)
        if error.status in (429, 503):
            waits_s = [e.retry_after_s for _, e, _ in self._failures if e.retry_after_s is not None]
            waits_s += [left_s for one, _, _ in self._failures if (left_s := one.cooling.left_s(now_s))]
            error.retry_after_s = min(waits_s, default=error.retry_after_s)
        error.should_retry = None if error.retry_after_s is not None else False
        if error.status in (429, 503) and error.retry_after_s is None:
            error.retry_after_s = _LATER_S  # for those who come back by themselves, whatever should_retry says
        return error

    def _nobody_asked(self, now_s: float) -> RequestError:
        everyone = self._chain.order()
        cooling = [left_s for one in everyone if (left_s := one.cooling.left_s(now_s))]
        limited = [left_s for left_s in self._limited_s if not math.isinf(left_s)]
        if cooling := [*cooling, *limited]:
            return UpstreamThrottled(upstream=everyone[0].upstream.name, retry_after_s=min(cooling))
        parked = [one.standing.parked_by(now_s) for one in everyone]
        if (first := parked[0]) is not None and all(parked):
            return first
        if self._limited_s and not self._passed_over:
            return self._too_large()
        return NoUpstream(self._request.model, retry_after_s=FORCED_EVERY_S)

    def _too_large(self) -> InvalidRequest:
        tokens = self._recorder.amounts_within(()).tokens
        error = InvalidRequest(
            f"This request takes about {tokens} tokens, more than the model's servers take at once: it can never fit. "
            "Shorten the prompt or lower max_tokens.",
            param="max_tokens",
        )
        error.code = "request_exceeds_limit"
        return error


async def _read_out(answer: Answer, priced: Callable[[list[bytes]], list[bytes]]) -> Answer:
    """``answer`` with all of a stream whose choices are over. Raises UpstreamError, also for more than is held."""
    if answer.batches is None:
        return answer
    rest: list[list[bytes]] = []
    size = 0
    async for batch in answer.batches:
        rest.append(batch if answer.usage is None else priced(batch))
        size += sum(map(len, batch))
        if size > 2 * MAX_HELD_BYTES:
            raise UpstreamBroken("The model's answer goes on after its end.", upstream="")
    whole = Answer(batches=_again(rest))
    whole.usage, whole.filtered = answer.usage, True
    return whole


async def _again(batches: list[list[bytes]]) -> AsyncGenerator[list[bytes], None]:
    for batch in batches:
        yield batch


def _may_be_asked(deployment: Deployment, now_s: float, as_last: bool) -> bool:
    return not deployment.cooling.left_s(now_s) and (as_last or deployment.is_well(now_s))


def _is_larger(one: Deployment, other: Deployment) -> bool:
    """Whether ``one`` may take a prompt that ``other`` could not; windows that are not known may be larger."""
    if one.model == other.model:
        return False
    return one.context_tokens is None or other.context_tokens is None or one.context_tokens > other.context_tokens
