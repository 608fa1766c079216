"""The semantic tier on the real exact tier and the real index, in this process, with vectors that a test lays down."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from hand_clock import HandClock
from numpy.typing import NDArray

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.exact import ExactTier
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.judge import Judge, Reply
from genkan.cache.judge_budget import JudgeBudget
from genkan.cache.normalise import canonical
from genkan.cache.scope import Scope, Scopes
from genkan.cache.sealer import Sealer
from genkan.cache.semantic import SemanticTier, Sought
from genkan.cache.stored_answer import StoredAnswer
from genkan.config import RouteCacheConfig
from genkan.store.memory_answers import MemoryAnswers
from genkan.wire.chat import ChatRequest
from genkan.wire.usage import Usage

ON = RouteCacheConfig(semantic="on")
SHADOW = RouteCacheConfig(semantic="shadow")
VERIFIED = RouteCacheConfig(semantic="on", verified=True)
SECRET = b"a secret of thirty-two bytes ...."
TTL_S = 600.0


def chat(*texts: str, **options: Any) -> ChatRequest:
    """A chat whose messages are in turn the user's and the assistant's; the last is the user's."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return ChatRequest.from_object({"model": "m", "messages": messages, "temperature": 0, **options})


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.verdicts: list[str] = []
        self.embedded_times = 0

    def looked(self, route: str, result: str) -> None:
        raise AssertionError("the pipeline counts requests, once each")

    def stored(self, route: str, n_bytes: int) -> None:
        pass

    def not_stored(self, route: str, reason: str) -> None:
        pass

    def failed(self, what: str) -> None:
        self.failures.append(what)

    def coalesced(self, route: str) -> None:
        pass

    def embedded(self, seconds: float) -> None:
        self.embedded_times += 1

    def judged(self, verdict: str) -> None:
        self.verdicts.append(verdict)


class Angles:
    """An embedder whose vectors lie in a plane: texts to degrees, so that cosines are a test's to choose."""

    def __init__(self, degrees: Mapping[str, float]) -> None:
        self.degrees = {canonical(text): angle for text, angle in degrees.items()}
        self.asked: list[str] = []

    async def __call__(self, text: str, timeout_s: float) -> NDArray[np.float32] | None:
        self.asked.append(text)
        angle = self.degrees.get(text)
        if angle is None:
            return None
        return np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))], np.float32)


class SayingModel:
    """A judge's model that says what it is told to, and keeps what it was asked."""

    def __init__(self, says: str = "YES", cost_nano_usd: int | None = None) -> None:
        self.says = says
        self.cost_nano_usd = cost_nano_usd
        self.matters: list[dict[str, str]] = []

    async def __call__(self, instructions: str, matter: str) -> Reply:
        self.matters.append(orjson.loads(matter))
        return Reply(self.says, self.cost_nano_usd)


class SemanticRig:
    """One worker's tiers, and requests through them as the pipeline sends them."""

    def __init__(self, embed: Any, model: SayingModel | None, drawn: float) -> None:
        self.clock, self.told = HandClock(), Told()
        self.scopes = Scopes(SECRET)
        self.drawn = drawn
        self.answers = MemoryAnswers(self.clock, limit_bytes=1 << 24)
        self.exact = ExactTier(
            self.answers, Sealer(SECRET, encrypt=False), self.clock, self.told, max_answer_bytes=1 << 18
        )
        self.index = MemoryIndex(self.clock, self.told, max_entries=1000)
        self.judge = (
            None
            if model is None
            else Judge(
                model,
                JudgeBudget(per_minute=1000, usd_per_day=1.0),
                share=1.0,
                clock=self.clock,
                observer=self.told,
                uniform=lambda: self.drawn,
            )
        )
        self.tier = SemanticTier(
            self.index,
            embed,
            self.exact,
            MULTILINGUAL_E5_SMALL,
            clock=self.clock,
            observer=self.told,
            judge=self.judge,
            uniform=lambda: self.drawn,
        )

    def scope(self, request: ChatRequest, *, tenant: str = "acme", route: str = "support") -> Scope:
        return self.scopes.of(request, tenant=tenant, route=route, models=b"m1", normalised=True, per_user=False)

    async def find(
        self, request: ChatRequest, settings: RouteCacheConfig = ON, *, tenant: str = "acme", timeout_s: float = 1.0
    ) -> Sought:
        scope = self.scope(request, tenant=tenant)
        return await self.tier.find(request, scope, settings, tenant=tenant, route="support", timeout_s=timeout_s)

    async def ask(
        self, request: ChatRequest, settings: RouteCacheConfig = ON, *, tenant: str = "acme", says: str = "An answer."
    ) -> Sought:
        """Find, and on a miss answer with ``says``, store that, learn, and have judged what there is to judge."""
        scope = self.scope(request, tenant=tenant)
        look = self.exact.look(scope, tenant=tenant, route="support", timeout_s=1.0)
        assert await look.found() is None
        sought = await self.find(request, settings, tenant=tenant)
        if sought.hit is None:
            answer = self.answer(scope, says)
            look.put(answer, ttl_s=TTL_S)
            await self.tier.learn(sought, answer)
            await self.judged()
        return sought

    def answer(self, scope: Scope, says: str) -> StoredAnswer:
        now_s = self.clock.unix()
        return StoredAnswer(
            is_chat=True,
            text=says,
            model="m",
            usage=Usage(10, 5),
            created_s=int(now_s),
            deployment="m@up",
            question=scope.text or "",
            partition=scope.partition,
            exact=scope.exact,
            key=scope.key,
            stored_s=now_s,
            expires_s=now_s + TTL_S,
        )

    async def rewritten(self, scope: Scope, **changes: Any) -> None:
        """What is stored for ``scope`` becomes something else, sealed as ours, under the same key."""
        look = self.exact.look(scope, tenant="acme", route="support", timeout_s=1.0)
        found = await look.found()
        assert found is not None
        look.put(replace(found.answer, **changes), ttl_s=TTL_S)

    async def judged(self) -> None:
        """Wait until the judge has nothing left to do."""
        if self.judge is not None:
            await self.judge.idle()


@asynccontextmanager
async def semantic_rig(
    embed: Any, model: SayingModel | None = None, *, drawn: float = 0.0
) -> AsyncIterator[SemanticRig]:
    """``drawn`` is what chance always says."""
    rig = SemanticRig(embed, model, drawn)
    await rig.index.start()
    if rig.judge is not None:
        await rig.judge.start()
    try:
        yield rig
    finally:
        if rig.judge is not None:
            await rig.judge.aclose()
        await rig.index.aclose()
        await rig.exact.aclose()
