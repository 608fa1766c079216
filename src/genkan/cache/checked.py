"""Answers of stored questions, checked again outside the index."""

from typing import Protocol

from genkan.cache.candidates import Candidate
from genkan.cache.exact import Look
from genkan.cache.guards import refusal
from genkan.cache.questions import Questions
from genkan.cache.scope import Scope
from genkan.cache.sought import Asked
from genkan.cache.stored_answer import StoredAnswer
from genkan.clock import Clock


class Answers(Protocol):
    """Where answers are kept: the exact tier."""

    def look(self, scope: Scope, *, tenant: str, route: str, timeout_s: float) -> Look:
        """Look for the scope's own answer; and the place to put one."""

    async def read(self, key: bytes, *, tenant: str, route: str, timeout_s: float) -> StoredAnswer | None:
        """The answer under a key, if no purge has made it unreadable. Raises nothing."""


class CheckedAnswers:
    """An index is only a hint, and Redis another process's memory: nothing is given that its own record forbids."""

    def __init__(self, answers: Answers, questions: Questions, clock: Clock) -> None:
        self._answers = answers
        self._questions = questions
        self._clock = clock

    async def of(self, asked: Asked, candidate: Candidate, timeout_s: float) -> StoredAnswer | None:
        """The candidate's answer: of the partition that was asked in, not expired, and of a question that no guard
        tells apart from the one asked. None otherwise, and on any failure."""
        if timeout_s <= 0.0:
            return None
        answer = await self._answers.read(candidate.key, tenant=asked.tenant, route=asked.route, timeout_s=timeout_s)
        if answer is None or answer.key != candidate.key or answer.partition != asked.scope.partition:
            return None
        if answer.expires_s <= self._clock.unix() or not answer.may_be_stored:
            return None
        kept = self._questions.of(answer.question)  # it may have been answered anew, typed in another way
        return answer if kept == candidate.question or refusal(asked.question, kept) is None else None
