"""Two attempts at one stream: who has its first token first answers, the other is cancelled.

The first attempt runs in the request's own task. A timer asks for a second when the first takes long; only then is
there a second task. Whichever has its first piece cancels the other and waits until that has closed its connection.
What the second does can only help: its failure is told to its deployment and otherwise matters only if the first fails,
too.

A deployment that is probed is not hedged, or it would never be found out, and no second attempt is a probe.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from genkan.errors import TimedOut, UpstreamError
from genkan.gateway.deployment import Deployment
from genkan.gateway.hedging import Hedging
from genkan.upstream.base import Answer

if TYPE_CHECKING:
    from genkan.gateway.fallback import Sent, Walk

_log = logging.getLogger("genkan.gateway")


class Hedge:
    """One attempt of a walk, and perhaps a second beside it."""

    __slots__ = (
        "_after_s", "_began_s", "_cancelling", "_first", "_hedging", "_is_first_running", "_is_interrupted", "_is_left",
        "_main", "_second", "_task", "_timer", "_walk", "_was_denied", "_won",
    )  # fmt: skip

    def __init__(self, walk: "Walk", hedging: Hedging, first: "Sent") -> None:
        """``first`` is about to be sent."""
        self._walk = walk
        self._hedging = hedging
        self._first = first
        self._began_s = walk.clock.monotonic()
        self._after_s = 0.0
        main = asyncio.current_task()
        assert main is not None
        self._main: asyncio.Task[object] = main
        self._cancelling = main.cancelling()
        self._timer: asyncio.TimerHandle | None = None
        self._was_denied = False
        self._is_first_running = True
        self._is_interrupted = False  # the second cancelled the first, in our own task
        self._is_left = False  # the client went, or a bug ended it
        self._task: asyncio.Task[None] | None = None  # of the second
        self._second: Sent | None = None
        self._won: tuple[Sent, Answer] | None = None  # what the second has for us

    async def answer(self) -> Answer | None:
        """The answer of either, begun; None where none came, and the walk goes on. Raises what ends the walk."""
        self._plan()
        try:
            answer = await self._of_first()
            if answer is not None:
                await self._without_second(answer)
            elif self._task is not None:
                await asyncio.wait([self._task])
                self._task.result()
        except BaseException as error:
            self._is_left = not isinstance(error, UpstreamError)
            await self._end_second()
            raise
        finally:
            self._tell()
        if answer is not None:
            return await self._walk.accepted(self._first, answer)
        return None if self._won is None else await self._walk.accepted(*self._won)

    def _plan(self) -> None:
        now_s = self._began_s
        if self._first.number == 1:
            self._hedging.requested(now_s)
        after_s = self._hedging.after_s(self._first.deployment.first_tokens, now_s)
        if after_s is not None and not self._first.underway.is_probe:
            self._after_s = after_s
            self._timer = self._main.get_loop().call_later(after_s, self._ask)

    def _ask(self) -> None:
        """May there be a second attempt now? If not, ask again later."""
        now_s = self._walk.clock.monotonic()
        waited_s = now_s - self._began_s
        if candidates := self._walk.beside(self._first):
            if self._hedging.grants(waited_s, self._after_s, now_s):
                self._task = self._main.get_loop().create_task(self._of_second(candidates))
                return
            self._was_denied = True
        pause_s = self._hedging.pause_s(waited_s, self._after_s)
        self._timer = self._main.get_loop().call_later(pause_s, self._ask)

    async def _of_first(self) -> Answer | None:
        try:
            return await self._tried(self._first, self._began_s)
        except asyncio.CancelledError:
            if not self._is_outrun:
                raise
            return None
        finally:
            self._is_first_running = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._is_interrupted:
                self._main.uncancel()

    @property
    def _is_outrun(self) -> bool:
        """Whether it was the second alone that cancelled us: the client may have left as well."""
        return self._is_interrupted and self._main.cancelling() == self._cancelling + 1

    async def _of_second(self, candidates: list[Deployment]) -> None:
        for deployment in candidates:
            if (sent := await self._walk.begin_beside(deployment)) is not None:
                break
        else:
            return
        self._second = sent
        answer = await self._tried(sent, self._walk.clock.monotonic())
        if answer is None:
            return
        self._won = sent, answer
        if self._is_first_running:
            self._is_interrupted = True
            self._main.cancel()

    async def _tried(self, sent: "Sent", began_s: float) -> Answer | None:
        """The answer of an attempt; None where it failed. Who must know of its end is told, but of an answer's."""
        walk, times = self._walk, sent.deployment.first_tokens
        try:
            answer = await walk.respond(sent)
        except UpstreamError as error:
            if isinstance(error, TimedOut):
                now_s = walk.clock.monotonic()
                times.took_longer(now_s - began_s, now_s)
            other_may_answer = self._won is not None if sent is self._first else self._is_first_running
            walk.judge(sent, error, other_may_answer=other_may_answer)
            return None
        except BaseException as error:
            now_s = walk.clock.monotonic()
            times.took_longer(now_s - began_s, now_s)
            was_outrun = self._is_outrun if sent is self._first else not self._is_left
            if was_outrun and isinstance(error, asyncio.CancelledError):
                sent.underway.outrun()
            else:
                sent.underway.abandoned(error)
            raise
        now_s = walk.clock.monotonic()
        times.took(now_s - began_s, now_s)
        return answer

    async def _without_second(self, answer: Answer) -> None:
        """The first's ``answer`` is the one."""
        try:
            await self._end_second()
        except BaseException as error:  # cancelled, and nobody else knows of the answer
            self._first.underway.abandoned(error)
            await answer.aclose()
            raise

    async def _end_second(self) -> None:
        """Cancel what runs of it, and close an answer that came at the same moment."""
        if (task := self._task) is None:
            return
        task.cancel()
        try:
            await asyncio.wait([task])
        finally:
            if self._won is not None:
                (sent, answer), self._won = self._won, None
                if self._is_left:
                    sent.underway.abandoned()
                else:
                    sent.underway.outrun()
                await answer.aclose()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, UpstreamError):
            _log.error("A second attempt failed.", exc_info=error)

    def _tell(self) -> None:
        if self._second is not None:
            self._walk.hedged = "lost" if self._won is None else "won"
            self._walk.observer.hedged(self._walk.chain.name, self._walk.hedged)
        elif self._was_denied:
            self._walk.observer.hedged(self._walk.chain.name, "denied")
