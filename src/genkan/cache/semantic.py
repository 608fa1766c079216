"""The semantic tier: a question gets the answer of one that asks the same in other words.

Theory. Near vectors mean little: "turn it on" and "turn it off" are nearer than most paraphrases. So the index only
proposes, among questions that share everything but the last text (the partition), and a proposal passes, in this
order: guards, which know how near neighbours differ; a calibrated score with a threshold or, in verified mode, what
was judged of that very entry; and the answer's own record, of the same partition, not expired, not purged. What fails
on the way is a miss. A judge, behind what clients see, is shown pairs that were nearly served, a share of those that
were, and in shadow mode those that would have been; its no is final, its yes holds for the pair from then on.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from genkan.cache.candidates import Choice, by_threshold, by_verdicts, candidates
from genkan.cache.checked import Answers, CheckedAnswers
from genkan.cache.doubts import Doubts
from genkan.cache.exact import Hit
from genkan.cache.index.base import Entry, Near, Vector, VectorIndex
from genkan.cache.judge import Judge
from genkan.cache.observer import CacheObserver
from genkan.cache.pause import Pause
from genkan.cache.question import Question
from genkan.cache.questions import Questions
from genkan.cache.scope import Scope
from genkan.cache.score import Score
from genkan.cache.seekable import is_plain, may_be, obstacle
from genkan.cache.sought import NOTHING, Asked, Sought
from genkan.cache.stored_answer import StoredAnswer
from genkan.cache.verdicts import Verdicts
from genkan.clock import Clock
from genkan.config import RouteCacheConfig
from genkan.wire.chat import GenerationRequest

__all__ = ["SemanticTier", "Sought"]

Embed = Callable[[str, float], Awaitable[Vector | None]]

_log = logging.getLogger(__name__)
_NEAREST = 4
_READS = 2  # candidates whose answers are read before it is a miss
_BEHIND_S = 5.0  # to embed a question behind the reply
_SERVED_SHARE = 0.05  # of what was served, so much is worth a judge


class SemanticTier:
    """For one event loop. Nothing raises: whatever fails is a miss, and counted."""

    def __init__(
        self,
        index: VectorIndex,
        embed: Embed,
        answers: Answers,
        score: Score,
        *,
        clock: Clock,
        observer: CacheObserver,
        judge: Judge | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """``embed`` gets a text in its canonical spelling and a time, and gives a vector of unit length, or None.

        ``score`` is of the same embedder. ``uniform`` draws from [0, 1). Nothing here is started or closed.
        """
        self._index = index
        self._embed = embed
        self._score = score
        self._clock = clock
        self._observer = observer
        self._uniform = uniform
        self._pause = Pause()  # of the embedder: one that hangs costs one request its time, and not all
        self._questions = Questions()
        self._verdicts = Verdicts()
        self._checked = CheckedAnswers(answers, self._questions, clock)
        self._doubts = Doubts(judge, index, answers, self._checked, self._verdicts, clock)

    async def find(
        self,
        request: GenerationRequest,
        scope: Scope,
        settings: RouteCacheConfig,
        *,
        tenant: str,
        route: str,
        timeout_s: float,
    ) -> Sought:
        """The answer of a like question, within ``timeout_s``; what comes of it without a hit goes to `learn`.

        After an embedding that took too long none is waited for in the next second.

        Cost, besides the vector and what is read: 0.1 ms among questions that were met before, 0.2 ms more for each new
        one of 10 words; the worst, five new ones of 400 characters, holds up the event loop for some 5 ms.
        """
        text = scope.text
        if settings.semantic == "off" or timeout_s <= 0.0 or text is None or not (is_plain(request) and may_be(text)):
            return NOTHING
        deadline_s = self._clock.monotonic() + timeout_s
        question = self._questions.of(text)
        if obstacle(question) is not None:
            return NOTHING
        asked = Asked(scope, text, question, settings, tenant, route, request.extras.cache not in ("no-store", "only"))
        sought = Sought(asked=asked)
        if not self._pause.permits(self._clock.monotonic()):
            self._observer.failed("paused")
            return sought
        try:
            async with asyncio.timeout(timeout_s):
                vector = await self._vector(question, timeout_s)
                if vector is not None:
                    self._pause.answered()
                    sought = Sought(asked=asked, vector=vector)
                    sought = await self._sought(asked, vector, deadline_s)
                elif self._clock.monotonic() > deadline_s - timeout_s / 2:
                    self._pause.timed_out(self._clock.monotonic())
        except TimeoutError:
            self._observer.failed("timeout")
            if sought.vector is None:
                self._pause.timed_out(self._clock.monotonic())
        except Exception:  # noqa: BLE001 - a request that nothing is found for is answered all the same
            self._observer.failed("semantic")
            _log.exception("the search for a like question failed")
        return sought

    async def learn(self, sought: Sought, answer: StoredAnswer | None) -> None:
        """Let others find the question that was sought for, and have what was doubtful judged. For behind the reply.

        ``answer`` is what was stored under the scope's key; None if nothing was.
        """
        asked = sought.asked
        if asked is None or sought.hit is not None:
            return
        try:
            entry = None if answer is None else await self._entry(asked, sought.vector, answer)
            await self._learn(asked, sought, answer, entry)
        except Exception:  # noqa: BLE001 - the request has its answer already
            self._observer.failed("semantic")
            _log.exception("a question was not learnt")

    async def _learn(self, asked: Asked, sought: Sought, answer: StoredAnswer | None, entry: Entry | None) -> None:
        if entry is not None and not (asked.settings.verified and sought.doubt):
            await self._index.add(entry)
            entry = None
        offered = sought.doubt is not None and self._doubts.offer(
            asked, sought.doubt, new_answer=None if answer is None else answer.text, entry=entry
        )
        if entry is not None and not offered:
            await self._index.add(entry)

    async def _entry(self, asked: Asked, vector: Vector | None, answer: StoredAnswer) -> Entry | None:
        """What the index is to know of the question; None if the answer is not its own, or nobody else's either."""
        scope = asked.scope
        if answer.key != scope.key or answer.partition != scope.partition:
            return None
        if answer.is_alias or not answer.may_be_stored:
            return None
        if vector is None:  # there was no time before the reply
            vector = await self._vector(asked.question, _BEHIND_S)
        if vector is None:
            return None
        return Entry(
            key=scope.key,
            partition=scope.partition,
            text=asked.text,
            vector=vector,
            expires_s=answer.expires_s,
            tenant=asked.tenant,
            route=asked.route,
        )

    async def _vector(self, question: Question, timeout_s: float) -> Vector | None:
        began_s = self._clock.monotonic()
        vector = await self._embed(question.text, timeout_s)
        if vector is not None:
            self._observer.embedded(self._clock.monotonic() - began_s)
        return vector

    async def _sought(self, asked: Asked, vector: Vector, deadline_s: float) -> Sought:
        left_s = deadline_s - self._clock.monotonic()
        near = await self._index.search(asked.scope.partition, vector, k=_NEAREST, timeout_s=left_s)
        choice = self._choice(asked, near)
        for candidate in choice.given[:_READS]:
            answer = await self._checked.of(asked, candidate, deadline_s - self._clock.monotonic())
            if answer is None:
                continue
            if asked.settings.semantic == "shadow":
                return Sought(is_shadow=True, asked=asked, vector=vector, doubt=candidate)
            self._doubts.offer(asked, candidate, share=_SERVED_SHARE)
            return Sought(Hit(answer, "semantic"), asked=asked, vector=vector)
        return Sought(asked=asked, vector=vector, doubt=next(iter(choice.doubtful), None))

    def _choice(self, asked: Asked, near: list[Near]) -> Choice:
        question, settings = asked.question, asked.settings
        threshold = self._score.threshold(question.language, settings.max_error_rate)
        if threshold is None or not near:
            return Choice([], [])
        found = candidates(
            question, asked.scope.key, near, questions=self._questions, score=self._score, verdicts=self._verdicts
        )
        if not settings.verified:
            return by_threshold(found, threshold)
        return by_verdicts(found, threshold, settings.max_error_rate, self._index.seen, self._uniform())
