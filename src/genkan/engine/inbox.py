"""What the engine's callers and its thread share, under one lock: mail for the thread, and what it last said."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

from genkan.engine.request import Request
from genkan.engine.statistics import EngineObserver, EngineStatistics
from genkan.errors import EngineOverloaded, EngineUnavailable

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """Something to be called in the engine's thread, and the future of its answer in the asking loop."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Answer] = self._loop.create_future()

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


class Mail(NamedTuple):
    """What callers left since the thread last looked."""

    submitted: list[Request]
    cancelled: list[Request]


class Inbox:
    """All methods may be called from any thread, but ``take``, ``answer_questions`` and ``ended``: the engine's."""

    def __init__(self, max_alive: int, observer: EngineObserver, statistics: EngineStatistics) -> None:
        """At most ``max_alive`` sequences may wait and run. ``observer`` is told of every change, under the lock."""
        self._max_alive = max_alive
        self._observer = observer
        self._changed = threading.Condition()
        self._statistics = statistics
        self._submitted: list[Request] = []
        self._cancelled: list[Request] = []
        self._questions: list[Question[Any]] = []
        self._num_alive = 0  # sequences submitted and not ended
        self._closed: str | None = None

    @property
    def closed(self) -> str | None:
        """Why nobody is served any more; None while everybody is."""
        return self._closed

    def statistics(self) -> EngineStatistics:
        with self._changed:
            return self._statistics

    # The callers' side

    def check_open(self) -> None:
        """Raises EngineUnavailable."""
        if self._closed is not None:
            raise EngineUnavailable(self._closed)

    def submit(self, request: Request) -> None:
        """Raises EngineUnavailable and EngineOverloaded."""
        with self._changed:
            self.check_open()
            if self._num_alive + len(request.sequences) > self._max_alive:
                raise EngineOverloaded(
                    f"The engine is busy: at most {self._max_alive} requests may run and wait at once."
                )
            self._num_alive += len(request.sequences)
            self._submitted.append(request)
            self._changed.notify()
            self._tell()

    def cancel(self, request: Request) -> None:
        with self._changed:
            self._cancelled.append(request)
            self._changed.notify()

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """What ``question`` gives when the engine's thread calls it, between two steps. Raises EngineUnavailable."""
        asked = Question(question)
        with self._changed:
            self.check_open()
            self._questions.append(asked)
            self._changed.notify()
        return await asked.answer

    def close(self, reason: str) -> bool:
        """Take nothing any more, and say why; False if it was closed before, for another reason."""
        with self._changed:
            was_open = self._closed is None
            self._closed = self._closed or reason
            self._changed.notify()
            return was_open

    # The thread's side

    def take(self, *, is_idle: bool, limit_s: Callable[[], float | None]) -> Mail | None:
        """What lies here; None once it is closed. Where the engine is idle, wait for something, or for ``limit_s``."""
        with self._changed:
            if is_idle and not self._has_mail() and self._closed is None:
                self._changed.wait_for(lambda: self._closed is not None or self._has_mail(), limit_s())
            if self._closed is not None:
                return None
            mail = Mail(self._submitted, self._cancelled)
            self._submitted, self._cancelled = [], []
            return mail

    def answer_questions(self) -> None:
        while self._questions:  # each stays there until it is answered, so that it is told if that breaks the engine
            self._questions[0].ask()
            with self._changed:
                del self._questions[0]

    def ended(self, sequences: int) -> None:
        """So many more may be submitted."""
        with self._changed:
            self._num_alive -= sequences

    def publish(self, statistics: EngineStatistics) -> None:
        """The newest of the thread's numbers; how many wait is counted here."""
        with self._changed:
            self._statistics = statistics
            self._tell()

    def fail_all(self) -> list[Request]:
        """Answer every question with EngineUnavailable, and count nobody any more; the requests not taken yet."""
        with self._changed:
            reason = self._closed or ""
            questions, left = list(self._questions), list(self._submitted)
        for question in questions:
            question.fail(EngineUnavailable(reason))
        return left

    def publish_end(self) -> None:
        """Nothing waits and nothing runs any more."""
        with self._changed:
            self._num_alive = 0
            self._statistics = replace(self._statistics, running=0)
            self._tell()

    def _has_mail(self) -> bool:
        return bool(self._submitted or self._cancelled or self._questions)

    def _tell(self) -> None:
        waiting = self._num_alive - self._statistics.running
        if self._statistics.waiting != waiting:
            self._statistics = replace(self._statistics, waiting=waiting)
        self._observer.changed(self._statistics)
