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

After the first piece of an answer has been given to the client there is no way back: what fails then is gone on with
as `resume.py` has it, or is told in the stream.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, NamedTuple

from genkan.clock import Clock
from genkan.errors import (
    AccountsUnavailable,
    InvalidRequest,
    NoUpstream,
    RequestError,
    TimedOut,
    UpstreamError,
    UpstreamFailed,
    UpstreamThrottled,
)
from genkan.gateway.breaker import FORCED_EVERY_S, Attempt
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.hedge import Hedge
from genkan.gateway.meter import Limited, Meter
from genkan.gateway.observer import GatewayObserver
from genkan.gateway.read_out import read_out
from genkan.gateway.recorder import UNRECORDED, Recorder
from genkan.gateway.reservations import Reservation
from genkan.gateway.resume import Resumption
from genkan.gateway.retry import Backoff, wait_s
from genkan.gateway.rules import Verdict, verdict
from genkan.gateway.standing import PARKED_S
from genkan.gateway.underway import Underway, outcome_of
from genkan.store.accounts import Amounts
from genkan.upstream.base import NO_CALL, Answer, Call, Continuation
from genkan.wire.chat import GenerationRequest

Sleep = Callable[[float], Awaitable[None]]


class Sent(NamedTuple):
    """An attempt that is about to be sent, and must then be told how it ended, by way of ``underway``."""

    deployment: Deployment
    underway: Underway
    call: Call
    number: int  # the request's first is 1
    left_s: float


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
        "_began_s", "_deadline_s", "_failures", "_fallback", "_filtered_by", "_first", "_is_late", "_limited_s",
        "_passed_over", "_reasons", "answered_by", "answering", "attempts", "chain", "clock", "fields", "filtered",
        "hedged", "observer", "order", "recorder", "request",
    )  # fmt: skip

    def __init__(self, fallback: Fallback, chain: Chain, request: GenerationRequest, recorder: Recorder) -> None:
        self._fallback = fallback
        self.clock = fallback.clock
        self.observer = fallback.observer
        self.chain = chain
        self.request = request
        self.recorder = recorder
        self.order: list[Deployment] = []  # in which they are asked
        self._began_s = fallback.clock.monotonic()
        self._deadline_s = self._began_s + chain.config.total_s
        self._failures: list[tuple[Deployment, UpstreamError, Verdict]] = []
        self._passed_over: list[Deployment] = []
        self.filtered: tuple[Deployment, Answer, int] | None = None  # for want of a better one
        self._filtered_by: list[Deployment] = []
        self._limited_s: list[float] = []  # when limits that kept somebody from being asked leave room; inf: never
        self._first: Deployment | None = None
        self._reasons: list[str] = []  # why each in turn was not the one that answers
        self._is_late = False  # somebody was not asked for want of time
        self.attempts = 0
        self.answered_by: Deployment | None = None
        self.answering = 0  # the number of the attempt that did
        self.hedged: Literal["won", "lost"] | None = None  # what became of a second attempt beside another
        self.fields: dict[str, object] = {}  # for the log

    @property
    def fell_back_because(self) -> str | None:
        """Why the first in turn did not answer; None if it did.

        The code of its error, ``content_filter``, or ``unavailable`` if it was passed over.
        """
        return self._reasons[0] if self.answered_by is not self._first and self._reasons else None

    async def to_answer(self) -> Answer:
        """See Fallback."""
        self.chain.budget.requested(self._began_s)
        self.order = order = self.chain.order(self.request, self.recorder.tenant, self._began_s)
        self._first = order[0]
        for deployment in order:
            if self.attempts and self._was_asked(deployment):
                continue  # beside another
            if (answer := await self._ask(deployment)) is not None:
                return answer
        passed_over, self._passed_over = self._passed_over, []
        for deployment in passed_over:
            if self._was_asked(deployment):
                continue  # beside another, when it was well again
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

    @property
    def left_s(self) -> float:
        """Of the time that the route gives it."""
        return self._deadline_s - self.clock.monotonic()

    async def _ask(self, deployment: Deployment, *, as_last: bool = False) -> Answer | None:
        if self._failures and not self._suits(deployment):
            return None
        sent = await self.begin(deployment, as_last=as_last)
        return None if sent is None else await self._answered(sent)

    async def begin(
        self, deployment: Deployment, *, as_last: bool = False, continuation: Continuation | None = None
    ) -> Sent | None:
        """An attempt at ``deployment``; None where that is to be left alone, has no room for us, or it is too late.

        With a ``continuation`` it goes on with an answer that another began.
        """
        now_s = self.clock.monotonic()
        if (left_s := self._deadline_s - now_s) <= 0:
            self._is_late = deployment.standing.parked_by(now_s) is None
            return None
        room: Reservation | None = None
        if deployment.meter is not None and _may_be_asked(deployment, now_s, as_last):
            room = await self._room(deployment.meter, left_s)
            if room is None:
                return None
            now_s = self.clock.monotonic()
            left_s = max(self._deadline_s - now_s, 0.001)
        attempt = deployment.begin_as_last(now_s) if as_last else deployment.begin(now_s)
        if attempt is None:
            if room is not None and deployment.meter is not None:
                deployment.meter.leave(room, Amounts(0, 0))
            self._passed_over.append(deployment)
            self._reasons.append("unavailable")
            return None
        if self._reasons and self.answered_by is None:
            self._tell_the_observer(deployment)
        return self._begun(deployment, attempt, now_s, left_s, room, continuation)

    def _begun(
        self,
        deployment: Deployment,
        attempt: Attempt,
        now_s: float,
        left_s: float,
        room: Reservation | None,
        continuation: Continuation | None = None,
    ) -> Sent:
        self.attempts = number = self.attempts + 1
        call = self.recorder.attempt_begun(deployment, number, room)
        if continuation is not None or call.keep_bytes != self.chain.keep_bytes:
            call = Call() if call is NO_CALL else call
            call.continuation, call.keep_bytes = continuation, self.chain.keep_bytes
        underway = Underway(deployment, attempt, now_s, self.clock, self._fallback.observer, self.recorder, number)
        return Sent(deployment, underway, call, number, left_s)

    def beside(self, sent: Sent) -> list[Deployment]:
        """Who may be asked the same while ``sent`` runs, in order: others of its model, and last its own deployment."""
        now_s, own = self.clock.monotonic(), sent.deployment
        others = [one for one in self.order if one.model == own.model and one is not own and not self._was_asked(one)]
        # What still waits for a place there would only wait twice.
        is_of_use = sent.call.is_sent and not own.is_one_process
        return [one for one in (*others, *([own] if is_of_use else [])) if _is_free(one, now_s)]

    async def begin_beside(self, deployment: Deployment) -> Sent | None:
        """An attempt while another runs; None where there is no room for it now, or the deployment is not well."""
        room: Reservation | None = None
        if (meter := deployment.meter) is not None:
            recorder = self.recorder
            try:
                amounts = recorder.amounts_within(meter.plan)
                room = await meter.enter(recorder.request_id, amounts, left_s=0.0, redis_left=recorder.redis_left)
            except (Limited, AccountsUnavailable):
                return None
        now_s = self.clock.monotonic()
        left_s = self._deadline_s - now_s
        attempt = deployment.begin(now_s) if left_s > 0 and _is_free(deployment, now_s) else None
        if attempt is None:
            if room is not None and meter is not None:
                meter.leave(room, Amounts(0, 0))
            return None
        return self._begun(deployment, attempt, now_s, left_s, room)

    def _was_asked(self, deployment: Deployment) -> bool:
        """And has ended without an answer for the client."""
        failed = any(one is deployment for one, _, _ in self._failures)
        return failed or any(one is deployment for one in self._filtered_by)

    async def _room(self, meter: Meter, left_s: float) -> Reservation | None:
        """Room within what an upstream allows us; None if there is none in time."""
        recorder = self.recorder
        try:
            return await meter.enter(
                recorder.request_id, recorder.amounts_within(meter.plan), left_s=left_s, redis_left=recorder.redis_left
            )
        except Limited as limited:
            self._limited_s.append(math.inf if limited.retry_after_s is None else limited.retry_after_s)
            self._reasons.append("limited")
            return None

    def respond(self, sent: Sent) -> Awaitable[Answer]:
        """What its upstream answers; to be awaited. Raises UpstreamError; nothing is told of that yet."""
        deployment = sent.deployment
        return deployment.upstream.respond(self.request, deployment.name_there, total_s=sent.left_s, call=sent.call)

    async def _answered(self, sent: Sent) -> Answer | None:
        if (hedging := self.chain.hedging) is not None and self.request.stream:
            return await Hedge(self, hedging, sent).answer()
        try:
            answer = await self.respond(sent)
        except UpstreamError as error:
            self.judge(sent, error)
            return None
        except BaseException as error:
            sent.underway.abandoned(error)
            raise
        return await self.accepted(sent, answer) if answer.filtered else self._given(sent, answer)

    async def accepted(self, sent: Sent, answer: Answer) -> Answer | None:
        """What ``sent`` came to, followed to its end; None for what is only kept for want of a better one."""
        underway = sent.underway
        if answer.filtered and "content_filter" in self.chain.config.fallback_on:
            try:
                await self._keep(sent, answer)
            except UpstreamError as error:
                self.judge(sent, error)
            except BaseException as error:
                underway.abandoned(error)
                raise
            else:
                underway.succeeded(answer)
            return None
        return self._given(sent, answer)

    def _given(self, sent: Sent, answer: Answer) -> Answer:
        self.answered_by, self.answering = sent.deployment, sent.number
        if answer.batches is None or not self.chain.keep_bytes:
            return sent.underway.begun(answer)
        return sent.underway.begun(answer, partial(Resumption, self, sent.deployment, sent.number))

    def _tell_the_observer(self, asked: Deployment) -> None:
        if any(failed is asked for failed, _, _ in self._failures):
            self._fallback.observer.retried(asked.name)
        elif asked is not self._first:
            self._fallback.observer.fell_back(self.chain.name, self._reasons[-1])

    async def _keep(self, sent: Sent, filtered: Answer) -> None:
        """Hold back an answer that a content filter emptied; the first such is as good as any.

        It is read to its end, so that it holds no place that another deployment may need. Raises UpstreamError.
        """
        try:
            if self.filtered is None:
                number = sent.number
                whole = await read_out(filtered, lambda batch: self.recorder.priced(number, batch, filtered))
                self.filtered = sent.deployment, whole, number
        finally:
            await filtered.aclose()
        self._filtered_by.append(sent.deployment)
        self._reasons.append("content_filter")

    def _suits(self, deployment: Deployment) -> bool:
        """A prompt that was too long for one window can only fit a larger one."""
        return all(
            _is_larger(deployment, asked)
            for asked, _, meaning in self._failures
            if meaning.reason == "context_too_long"
        )

    def failed(self, sent: Sent, error: UpstreamError) -> Verdict:
        """What ``error`` of an attempt means; its deployment is told."""
        deployment, meaning = sent.deployment, verdict(error)
        half_s = self.chain.config.total_s / 2
        if isinstance(error, TimedOut) and error.phase == "total" and sent.left_s <= min(error.limit_s, half_s):
            meaning = Verdict("error")  # it was given what others had left of the time, which says nothing of it
        sent.underway.failed(error, meaning)
        self.leave_alone(deployment, error, meaning)
        return meaning

    def failed_already(self) -> dict[str, Verdict]:
        """What the last failure of each deployment means, by name; of who failed last at the end."""
        failed: dict[str, Verdict] = {}
        for deployment, _, meaning in self._failures:
            failed.pop(deployment.name, None)
            failed[deployment.name] = meaning
        return failed

    def leave_alone(self, deployment: Deployment, error: UpstreamError, meaning: Verdict) -> None:
        """For a while, if that is what ``error`` means."""
        now_s = self.clock.monotonic()
        if meaning.cools:
            deployment.cooling.until(now_s, error.retry_after_s)
        if meaning.parks:
            deployment.standing.park(error, now_s + PARKED_S)

    def judge(self, sent: Sent, error: UpstreamError, *, other_may_answer: bool = False) -> None:
        """Note that ``sent`` failed. Raises ``error`` if it is to go to the client at once.

        That is not so while another attempt, which it was beside, may still answer.
        """
        deployment, meaning = sent.deployment, self.failed(sent, error)
        now_s = self.clock.monotonic()
        self._failures.append((deployment, error.with_traceback(None), meaning))
        if other_may_answer:
            return
        self._reasons.append(outcome_of(error, meaning))
        is_request = meaning.reason == "request" or meaning.reason not in self.chain.config.fallback_on
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
        retry = self.chain.config.retry
        backoff = Backoff(retry.backoff_s, retry.max_backoff_s)
        for _ in range(retry.max_retries):
            now_s = self.clock.monotonic()
            found = self._worth_asking_again(now_s, backoff.next_s())
            if found is None or not self.chain.budget.take(now_s):
                return None
            deployment, pause_s = found
            await self._fallback.sleep(pause_s)
            if (answer := await self._ask(deployment)) is not None:
                return answer
        return None

    def _worth_asking_again(self, now_s: float, backoff_s: float) -> tuple[Deployment, float] | None:
        """The first that was asked whose last failure may be over soon, and in how many seconds to ask it."""
        last = {deployment.name: (deployment, error, meaning) for deployment, error, meaning in self._failures}
        left_s, max_wait_s = self._deadline_s - now_s, self.chain.config.retry.max_wait_s
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
        now_s = self.clock.monotonic()
        candidates = [error for _, error, meaning in self._failures if meaning.reason == "error" and not meaning.parks]
        candidates += [error for _, error, _ in reversed(self._failures)]
        resting = self._somebody_rests(now_s)
        if self._is_late:
            error: RequestError = TimedOut(upstream="", phase="total", limit_s=self.chain.config.total_s)
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
        everyone = self.order
        cooling = [left_s for one in everyone if (left_s := one.cooling.left_s(now_s))]
        limited = [left_s for left_s in self._limited_s if not math.isinf(left_s)]
        if cooling := [*cooling, *limited]:
            return UpstreamThrottled(upstream=everyone[0].upstream.name, retry_after_s=min(cooling))
        parked = [one.standing.parked_by(now_s) for one in everyone]
        if (first := parked[0]) is not None and all(parked):
            return first
        if self._limited_s and not self._passed_over:
            return self._too_large()
        return NoUpstream(self.request.model, retry_after_s=FORCED_EVERY_S)

    def _too_large(self) -> InvalidRequest:
        tokens = self.recorder.amounts_within(()).tokens
        error = InvalidRequest(
            f"This request takes about {tokens} tokens, more than the model's servers take at once: it can never fit. "
            "Shorten the prompt or lower max_tokens.",
            param="max_tokens",
        )
        error.code = "request_exceeds_limit"
        return error


def _may_be_asked(deployment: Deployment, now_s: float, as_last: bool) -> bool:
    return not deployment.cooling.left_s(now_s) and (as_last or deployment.is_well(now_s))


def _is_free(deployment: Deployment, now_s: float) -> bool:
    """Whether an attempt at it would be no probe, nor against any advice."""
    is_well = not deployment.cooling.left_s(now_s) and deployment.standing.admits(now_s)
    return is_well and deployment.breaker.state(now_s) == "closed"


def _is_larger(one: Deployment, other: Deployment) -> bool:
    """Whether ``one`` may take a prompt that ``other`` could not; windows that are not known may be larger."""
    if one.model == other.model:
        return False
    return one.context_tokens is None or other.context_tokens is None or one.context_tokens > other.context_tokens
