"""One attempt at a deployment, from its beginning to the end of its answer."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from genkan.clock import Clock
from genkan.errors import TimedOut, UpstreamError, UpstreamRefused
from genkan.gateway.breaker import Attempt
from genkan.gateway.deployment import Deployment
from genkan.gateway.observer import GatewayObserver
from genkan.gateway.recorder import UNRECORDED, Recorder
from genkan.gateway.rules import Verdict, verdict
from genkan.upstream.base import Answer

_log = logging.getLogger("genkan.gateway")


class Resumes(Protocol):
    """Goes on with streams whose upstream has failed."""

    def can(self, answer: Answer, error: UpstreamError, meaning: Verdict) -> bool:
        """Whether it is worth a try."""

    def rest(self, answer: Answer, error: UpstreamError, meaning: Verdict) -> AsyncGenerator[list[bytes], None]:
        """What is left of ``answer``, from elsewhere, for the same client. Raises UpstreamError.

        Tells the recorder when ``answer`` is over, however that is.
        """


class Underway:
    """An attempt whose end is told to its breaker and to the observer, once."""

    __slots__ = (
        "_answer",
        "_attempt",
        "_began_s",
        "_clock",
        "_deployment",
        "_is_over",
        "_number",
        "_observer",
        "_recorder",
        "_resumes",
    )

    def __init__(
        self,
        deployment: Deployment,
        attempt: Attempt,
        began_s: float,
        clock: Clock,
        observer: GatewayObserver,
        recorder: Recorder = UNRECORDED,
        number: int = 1,
    ) -> None:
        """It is the request's ``number``-th, and ``recorder`` has been told of its beginning."""
        self._deployment = deployment
        self._attempt = attempt
        self._began_s = began_s
        self._clock = clock
        self._observer = observer
        self._is_over = False
        self._recorder = recorder
        self._number = number
        self._answer: Answer | None = None
        self._resumes: Callable[[], Resumes] | None = None
        deployment.in_flight += 1

    def begun(self, answer: Answer, resumes: Callable[[], Resumes] | None = None) -> Answer:
        """``answer``, followed to its end. A stream that fails on its way is gone on with by what ``resumes`` makes."""
        self._resumes = resumes
        if answer.batches is None:
            self.succeeded(answer)
            return answer
        self._answer = answer
        now_s = self._clock.monotonic()
        self._observer.first_token(self._deployment.name, now_s - self._began_s)
        self._recorder.first_token(self._number)
        if self._attempt.probe:
            self._attempt.succeeded(now_s)  # a long answer must not keep everybody else waiting
        inner = answer.batches
        answer.batches = self._followed(answer, inner)
        answer.on_close(self._closed)
        answer.on_close(inner.aclose)
        return answer

    def succeeded(self, answer: Answer | None = None) -> None:
        """All of ``answer`` has come, or of the one that it began with."""
        self._answer = answer or self._answer
        self._attempt.succeeded(self._ended("ok"))

    def failed(self, error: UpstreamError, meaning: Verdict, *, may_go_on: bool = False) -> None:
        now_s = self._ended(outcome_of(error, meaning), error, may_go_on=may_go_on)
        if meaning.failure:
            self._attempt.failed(now_s)
        else:
            self._attempt.ignored(now_s)
        if meaning.reason == "error":
            _log.warning("%s failed: %s%s", self._deployment.name, _what(error), _because(error))

    @property
    def is_probe(self) -> bool:
        """Whether it is to find out if its deployment works again."""
        return self._attempt.probe > 0

    def outrun(self) -> None:
        """Another attempt at the same answer was quicker."""
        self._attempt.ignored(self._ended("hedged"))

    def abandoned(self, error: BaseException | None = None) -> None:
        """The client went away, or ``error``, a bug of ours, ended it."""
        is_bug = isinstance(error, Exception)
        self._attempt.ignored(self._ended("internal_error" if is_bug else "client_gone"))

    def _ended(self, outcome: str, error: UpstreamError | None = None, *, may_go_on: bool = False) -> float:
        now_s = self._clock.monotonic()
        if not self._is_over:
            self._is_over = True
            self._deployment.in_flight -= 1
            seconds = now_s - self._began_s
            self._observer.attempted(self._deployment.name, outcome, seconds)
            self._recorder.attempt_ended(self._number, outcome, seconds, self._answer, error, may_go_on=may_go_on)
        return now_s

    async def _followed(
        self, answer: Answer, batches: AsyncGenerator[list[bytes], None]
    ) -> AsyncGenerator[list[bytes], None]:
        try:
            async for batch in batches:
                yield batch if answer.usage is None else self._recorder.priced(self._number, batch, answer)
        except UpstreamError as error:
            # An answer that takes long says little of its upstream, and a client that reads slowly nothing.
            is_slow = isinstance(error, TimedOut) and error.phase == "total"
            meaning = Verdict("error") if is_slow else verdict(error)
            resumes = None if self._resumes is None else self._resumes()
            may_go_on = resumes is not None and resumes.can(answer, error, meaning)
            self.failed(error, meaning, may_go_on=may_go_on)
            if resumes is None or not may_go_on:
                raise
            rest = resumes.rest(answer, error.with_traceback(None), meaning)
        except Exception as error:  # a bug of ours; who only leaves closes this generator
            self.abandoned(error)
            raise
        else:
            self.succeeded()
            return
        async with aclosing(rest):
            async for batch in rest:
                yield batch

    async def _closed(self) -> None:
        if not self._is_over:
            self.abandoned()


def outcome_of(error: UpstreamError, meaning: Verdict) -> str:
    """What rows, metrics and headers call it: one of a few names, where an upstream has a word of its own."""
    return "refused" if meaning.reason == "request" else error.outcome


def _what(error: UpstreamError) -> str:
    """For the log: a refusal's message is the upstream's own, which may repeat the prompt."""
    return error.outcome if isinstance(error, UpstreamRefused) else error.message


def _because(error: UpstreamError) -> str:
    cause = error.__cause__
    return f" ({type(cause).__name__}: {cause})" if isinstance(cause, Exception) else ""  # not our own cancelling
