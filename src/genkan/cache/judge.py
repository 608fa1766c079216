"""Doubtful pairs are judged by a model, one after another, behind what clients see."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from genkan.cache.judge_budget import JudgeBudget
from genkan.cache.judge_prompt import INSTRUCTIONS, Pair, is_yes
from genkan.cache.observer import CacheObserver
from genkan.clock import Clock
from genkan.errors import RequestError

_log = logging.getLogger(__name__)
_MOST_WAITING = 64
_ASK_S = 30.0


class Reply(NamedTuple):
    """What a model said, and what that cost, if it is known."""

    text: str
    cost_nano_usd: int | None


Ask = Callable[[str, str], Awaitable[Reply]]  # instructions, and the matter; may raise what it likes
Matter = Callable[[], Awaitable[Pair | None]]  # the pair, once it is its turn; None: there is nothing left to judge
Then = Callable[[bool | None], Awaitable[None]]  # what follows from the verdict; None: there is none


class Judge:
    """Asks a model about pairs within a budget. For one event loop; nothing raises.

    Verdicts are counted with the ``observer`` as ``same``, ``different``, ``failed``, ``gone`` (the stored answer is)
    or ``dropped`` (no room, or no budget).
    """

    def __init__(
        self,
        ask: Ask,
        budget: JudgeBudget,
        *,
        share: float,
        clock: Clock,
        observer: CacheObserver,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """Of the pairs offered ``share`` are judged, from 0.0 to 1.0. ``uniform`` draws from [0, 1)."""
        self._ask = ask
        self._budget = budget
        self._share = share
        self._clock = clock
        self._observer = observer
        self._uniform = uniform
        self._waiting: asyncio.Queue[tuple[Matter, Then]] = asyncio.Queue(_MOST_WAITING)
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to judge."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="judge")

    async def aclose(self) -> None:
        """End; what waits is not judged."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait([worker])
            self._waiting = asyncio.Queue(_MOST_WAITING)

    async def idle(self) -> None:
        """Wait until all that was taken is judged, and what follows from it has come about."""
        await self._waiting.join()

    def offer(self, matter: Matter, then: Then, *, share: float = 1.0) -> bool:
        """Have a pair judged, and ``then`` awaited with the verdict; whether that will be tried. Takes no time.

        ``share`` is how many of such pairs are worth it, on top of the judge's own. Not tried, nothing is awaited.
        """
        if self._worker is None or self._uniform() >= self._share * share:
            return False
        if self._waiting.full() or not self._budget.take(self._clock.unix()):
            self._observer.judged("dropped")
            return False
        self._waiting.put_nowait((matter, then))
        return True

    async def _work(self) -> None:
        while True:
            matter, then = await self._waiting.get()
            try:
                await self._settle(matter, then)
            finally:
                self._waiting.task_done()

    async def _settle(self, matter: Matter, then: Then) -> None:
        try:
            await then(await self._verdict(matter))
        except Exception:  # noqa: BLE001 - a bug that one verdict meets must not end the judge
            _log.exception("what follows from a verdict failed")

    async def _verdict(self, matter: Matter) -> bool | None:
        try:
            pair = await matter()
            same = None if pair is None else await self._asked(pair)
        except Exception as error:  # noqa: BLE001 - whatever a model or a store does, the next pair is judged
            self._observer.judged("failed")
            why = error.outcome if isinstance(error, RequestError) else error  # what it says may repeat the questions
            _log.warning("two questions were not judged: %s: %s", type(error).__name__, why)
            return None
        self._observer.judged("gone" if same is None else "same" if same else "different")
        return same

    async def _asked(self, pair: Pair) -> bool:
        async with asyncio.timeout(_ASK_S):
            reply = await self._ask(INSTRUCTIONS, pair.as_json())
        if reply.cost_nano_usd:
            self._budget.spend(reply.cost_nano_usd, self._clock.unix())
        return is_yes(reply.text)
