"""Pairs of questions for a judge, and what follows from its verdicts."""

from dataclasses import replace
from functools import partial

from genkan.cache.candidates import Candidate
from genkan.cache.checked import Answers, CheckedAnswers
from genkan.cache.index.base import Entry, VectorIndex
from genkan.cache.judge import Judge
from genkan.cache.judge_prompt import Pair
from genkan.cache.sought import Asked
from genkan.cache.verdicts import Verdicts
from genkan.clock import Clock

_STORE_S = 1.0


class Doubts:
    """What a judge is shown. Without a judge nothing is.

    A verdict is noted for the pair, and for the entry whose answer it was, for all workers. After a yes a question
    without an answer of its own (its upstream failed, or what it said could not be stored) gets the other's under its
    own key, an alias: from then on the exact tier finds it. One that has its own answer keeps that.
    """

    def __init__(
        self,
        judge: Judge | None,
        index: VectorIndex,
        answers: Answers,
        checked: CheckedAnswers,
        verdicts: Verdicts,
        clock: Clock,
    ) -> None:
        self._judge = judge
        self._index = index
        self._answers = answers
        self._checked = checked
        self._verdicts = verdicts
        self._clock = clock

    def offer(
        self,
        asked: Asked,
        candidate: Candidate,
        *,
        new_answer: str | None = None,
        entry: Entry | None = None,
        share: float = 1.0,
    ) -> bool:
        """Have the pair judged, if the judge has the time and the budget; whether it is tried. Takes no time.

        ``new_answer`` is what the question was answered itself. ``entry`` goes into the index unless the verdict is
        that the candidate's answer is right for it, which makes it superfluous.
        """
        if self._judge is None or candidate.is_judged_same or not asked.may_leave:
            return False
        return self._judge.offer(
            partial(self._pair, asked, candidate, new_answer),
            partial(self._settle, asked, candidate, entry),
            share=share,
        )

    async def _pair(self, asked: Asked, candidate: Candidate, new_answer: str | None) -> Pair | None:
        answer = await self._checked.of(asked, candidate, _STORE_S)
        if answer is None:
            return None
        return Pair(
            stored_question=answer.question,
            stored_answer=answer.text,
            new_question=asked.text,
            new_answer=new_answer,
        )

    async def _settle(self, asked: Asked, candidate: Candidate, entry: Entry | None, same: bool | None) -> None:
        if entry is not None and not same:
            await self._index.add(entry)
        if same is None:
            return
        self._verdicts.note(asked.scope.key, candidate.key, same)
        await self._index.saw(candidate.key, asked.scope.partition, candidate.log_odds, same)
        if same and asked.settings.semantic == "on":
            await self._alias(asked, candidate)

    async def _alias(self, asked: Asked, candidate: Candidate) -> None:
        scope = asked.scope
        # In this order: what a purge forbids after the look is put where nobody can read it.
        look = self._answers.look(scope, tenant=asked.tenant, route=asked.route, timeout_s=_STORE_S)
        if await look.found() is not None:
            return
        answer = await self._checked.of(asked, candidate, _STORE_S)
        if answer is not None:
            alias = replace(answer, exact=scope.exact, key=scope.key, question=asked.text, is_alias=True)
            look.put(alias, ttl_s=answer.expires_s - self._clock.unix())
