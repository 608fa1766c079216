"""Goes on with a stream whose upstream failed after its first token, so that its client sees one answer.

Theory. What the client has is known (wire/said.py). Somebody else is given it as the beginning of an answer, or is
asked anew and followed in silence until that has said as much (wire/seam.py). Until then nothing of the other stream
has reached the client, so that it may fail, or turn out to be another answer, and the next is asked; from then on its
failure is the stream's own, and is gone on with in the same way. Which of them may be asked stands in
`resume_candidates.py`; breakers, limits, and the route's deadline hold for each as for any attempt.

A stream is never ended without a word: what cannot be gone on with ends in the error that broke it off, or in
`AnswerDiverged` where others had something else to say. Each attempt has its own part of the ledger's row, and the
client pays for one answer. Source: the issue that asked for it; there is no standard for any of this.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from genkan.errors import AccountsUnavailable, TimedOut, UpstreamError, UpstreamFailed
from genkan.gateway.deployment import Deployment
from genkan.gateway.diverged import AnswerDiverged
from genkan.gateway.resume_candidates import candidates, kinship
from genkan.gateway.resumed_part import ResumedPart
from genkan.gateway.resumed_usage import Part
from genkan.gateway.rules import Verdict, verdict
from genkan.gateway.underway import outcome_of
from genkan.upstream.base import Answer, Way
from genkan.upstream.going_on import beginning
from genkan.wire.said import Said
from genkan.wire.seam import Diverged

if TYPE_CHECKING:
    from genkan.gateway.fallback import Sent, Walk

_NOBODYS = Verdict("error")
_DIVERGED = "diverged"
_NO_PREFILL_S = 300.0


class Resumption:
    """Goes on with one answer. A Resumes."""

    __slots__ = (
        "_began", "_broke", "_diverged", "_failed", "_is_whole", "_left", "_number", "_parts", "_refused",
        "_said", "_suspect", "_walk",
    )  # fmt: skip

    def __init__(self, walk: "Walk", began: Deployment, number: int) -> None:
        """The attempt ``number`` began it, at ``began``."""
        self._walk = walk
        self._began = began
        self._number = number
        self._left = 0  # attempts that may yet be made
        self._is_whole = False  # as soon as an attempt has come to the answer's end
        self._said: Said | None = None  # all that the client has
        self._broke: UpstreamError | None = None  # what broke it off last
        self._failed: dict[str, Verdict] = {}
        self._diverged: Diverged | None = None
        self._refused: Deployment | None = None  # the answer's beginning, and is asked for all of it
        self._suspect: Deployment | None = None  # of never taking any
        self._parts: list[Part] = []  # those that went on, as the client and the log are told

    def can(self, answer: Answer, error: UpstreamError, meaning: Verdict) -> bool:
        """See Resumes."""
        return self._may(answer.said, error, meaning)

    async def rest(self, answer: Answer, error: UpstreamError, meaning: Verdict) -> AsyncGenerator[list[bytes], None]:
        """See Resumes."""
        outcome = "client_gone"
        self._take_over(answer, error, meaning)
        del error  # which, raised from here, would know this frame
        try:
            async with aclosing(self._rest(answer)) as batches:
                async for batch in batches:
                    yield batch
            outcome = "ok"
        except UpstreamError as failure:
            outcome = failure.outcome
            raise
        except Exception:
            outcome = "internal_error"
            raise
        finally:
            self._broke = None  # for the same reason
            self._walk.recorder.answer_ended(outcome)

    def _take_over(self, answer: Answer, error: UpstreamError, meaning: Verdict) -> None:
        walk = self._walk
        self._left = walk.chain.config.resume.attempts
        self._failed = walk.failed_already()
        self._note(self._began, error, meaning)
        self._said, self._broke = answer.said, error
        walk.leave_alone(self._began, error, meaning)

    async def _rest(self, answer: Answer) -> AsyncGenerator[list[bytes], None]:
        while True:
            async with aclosing(self._attempt(answer)) as batches:
                async for batch in batches:
                    yield batch
            if self._is_whole:
                return
            if self._said is None or not self._left:
                raise self._ending()

    async def _attempt(self, answer: Answer) -> AsyncGenerator[list[bytes], None]:
        """What one more attempt gives, if that can be made."""
        if (sent := await self._begun()) is None:
            self._left = 0
            return
        self._left -= 1
        if (part := await self._answered(sent, answer)) is None:
            return
        outcome = "client_gone"
        try:
            async with aclosing(self._joined(part, sent, answer)) as batches:
                async for batch in batches:
                    yield batch
            self._is_whole, outcome = True, "ok"
        except Diverged as diverged:
            outcome, error = _DIVERGED, _as_error(diverged, sent.deployment)
            if part.way == "replay":
                self._diverged = diverged.with_traceback(None)
            else:
                self._refused = sent.deployment  # it may not have gone on from there at all
            sent.underway.failed(error, verdict(error))
            self._note(sent.deployment, error, verdict(error))
            if part.has_more:
                self._said = None  # it was the other answer's own oddity, and what the client has is not known
        except UpstreamError as failure:
            outcome = self._failed_within(part, sent, failure.with_traceback(None))
        except Exception as bug:
            outcome = "internal_error"
            sent.underway.abandoned(bug)
            raise
        finally:
            self._tell(part.way, outcome)
            if outcome != "ok":
                await part.other.aclose()

    # who goes on

    async def _begun(self) -> "Sent | None":
        """The next attempt that may be made; None if there is none."""
        walk, said = self._walk, self._said
        assert said is not None
        refused, self._refused = self._refused, None
        if refused and not self._diverged and (sent := await self._begin(refused, "replay", said)) is not None:
            return sent
        self._suspect = None
        settings = walk.chain.config.resume
        for deployment, is_again in candidates(
            walk.order, self._began, self._failed, other_models=settings.other_models
        ):
            way = deployment.upstream.way_on(walk.request, said)
            if way == "prefill" and walk.clock.monotonic() < deployment.no_prefill_until_s:
                way = "replay"
            if way == "replay" and self._diverged is not None:
                continue  # it was heard what such a one says
            if is_again and not walk.chain.budget.take(walk.clock.monotonic()):
                continue
            if (sent := await self._begin(deployment, way, said)) is not None:
                return sent
        return None

    async def _begin(self, deployment: Deployment, way: Way, said: Said) -> "Sent | None":
        on = None if way == "replay" else beginning(said, way)
        try:
            sent = await self._walk.begin(deployment, continuation=on)
        except AccountsUnavailable:  # whether its limits have room cannot be told now
            return None
        if sent is not None:
            self._walk.recorder.goes_on(sent.number, way)
        return sent

    async def _answered(self, sent: "Sent", answer: Answer) -> ResumedPart | None:
        """What it answers; None if it fails, which is told."""
        said = self._said
        assert said is not None
        way: Way = "replay" if (on := sent.call.continuation) is None else on.way
        try:
            other = await self._walk.respond(sent)
        except UpstreamError as failure:
            meaning = self._walk.failed(sent, failure.with_traceback(None))
            self._note(sent.deployment, failure, meaning)
            is_refused = way != "replay" and meaning.reason == "request"
            self._refused = sent.deployment if is_refused else None
            self._suspect = sent.deployment if is_refused and way == "prefill" else None
            self._tell(way, outcome_of(failure, meaning))
            return None
        except BaseException as error:
            sent.underway.abandoned(error)
            self._tell(way, "internal_error" if isinstance(error, Exception) else "client_gone")
            raise
        if self._suspect is sent.deployment:
            # It takes the same request, but for that; or but for what was said, which may not be so with the next.
            sent.deployment.no_prefill_until_s = self._walk.clock.monotonic() + _NO_PREFILL_S
        answer.on_close(other.aclose)
        sent.underway.begun(other)
        is_other = kinship(self._began, sent.deployment) > 1
        mark = {"model": sent.deployment.model, "way": way} if is_other else None
        return ResumedPart(answer, said, other, way, mark)

    # what it says

    async def _joined(self, part: ResumedPart, sent: "Sent", answer: Answer) -> AsyncGenerator[list[bytes], None]:
        """What of it is new to the client. Raises Diverged and UpstreamError."""
        assert part.other.batches is not None
        recorder = self._walk.recorder
        async for batch in part.other.batches:
            had_more = part.has_more
            if not (new := part.take(batch)):
                continue
            if not had_more:
                self._went_on(sent.deployment, part.way, answer)
            part.count(self._parts)
            whole = part.with_usage(new)
            yield whole if answer.usage is None else recorder.priced(self._number, whole, answer)
        part.end()
        part.count(self._parts)  # of which the client sees nothing, such as usage it did not ask for

    def _went_on(self, deployment: Deployment, way: Way, answer: Answer) -> None:
        self._parts.append({"model": deployment.model, "way": way})
        for fields in (answer.fields, self._walk.fields):
            fields |= {"attempts": self._walk.attempts, "resumed": [*self._parts]}
        if kinship(self._began, deployment) > 1:
            self._walk.answered_by = deployment  # the answer is no longer the first model's alone

    # what went wrong

    def _may(self, said: Said | None, error: UpstreamError, meaning: Verdict) -> bool:
        """Whether what broke an answer off is nobody's will, and all that was said is known."""
        if meaning.reason != "error" or _is_late(error) or self._walk.left_s <= 0:
            return False
        return said is not None and said.is_known and said.size_bytes <= self._walk.chain.config.resume.max_bytes

    def _failed_within(self, part: ResumedPart, sent: "Sent", failure: UpstreamError) -> str:
        """Take note of a stream that broke off, before or after the seam; its deployment's breaker has been told."""
        meaning = _NOBODYS if _is_late(failure) else verdict(failure)
        self._note(sent.deployment, failure, meaning)
        self._walk.leave_alone(sent.deployment, failure, meaning)
        if part.has_more:
            self._broke = failure
            said = part.said()
            self._said = said if self._may(said, failure, meaning) else None
        elif _is_late(failure):
            self._said = None
        return outcome_of(failure, meaning)

    def _note(self, deployment: Deployment, failure: UpstreamError, meaning: Verdict) -> None:
        """Who failed last stands at the end. One that said when to come back is not asked again."""
        self._failed.pop(deployment.name, None)
        is_later = isinstance(failure, UpstreamFailed) and failure.retry_after_s is not None
        self._failed[deployment.name] = _NOBODYS if is_later else meaning

    def _tell(self, way: Way, outcome: str) -> None:
        self._walk.observer.resumed(self._walk.chain.name, way, outcome)

    def _ending(self) -> UpstreamError:
        if self._diverged is not None:
            return _as_error(self._diverged, self._began)
        assert self._broke is not None
        return self._broke


def _is_late(failure: UpstreamError) -> bool:
    """Whether the time for all of it is over."""
    return isinstance(failure, TimedOut) and failure.phase == "total"


def _as_error(diverged: Diverged, deployment: Deployment) -> AnswerDiverged:
    return AnswerDiverged(str(diverged), upstream=deployment.upstream.name)
