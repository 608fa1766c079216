"""Upstreams that take their time, in a loop whose time is the test's own, and a route that asks some of them twice."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from scripted_upstreams import Fails, Told, request, taken
from virtual_time import LoopClock

from genkan.config import BreakerConfig, HedgeConfig, RetryConfig, RouteConfig
from genkan.gateway.breaker import Breaker, MemoryCircuits
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback, Walk
from genkan.gateway.standing import UpstreamStanding
from genkan.upstream.base import NO_CALL, Answer, Call, Way
from genkan.wire.chat import GenerationRequest
from genkan.wire.said import Said

#: What first tokens took before the test began.
USUAL_S = 0.1


@dataclass(frozen=True)
class Reply:
    """What one request gets, ``after_s``: an answer, or ``error``."""

    after_s: float = 0.0
    error: Fails | None = None
    filtered: bool = False
    queues: bool = False  # it was not sent by then
    breaks: Fails | None = None  # after the first batch


STALLS = Reply(after_s=3600.0)


class TimedUpstream:
    """Gives its replies in order, the last one for ever, or those that ``draw`` gives."""

    def __init__(self, name: str, *replies: Reply, draw: Callable[[], Reply] | None = None) -> None:
        self.name = name
        self.asked_at_s: list[float] = []
        self.open = 0  # answers that nobody has closed
        self.running = 0  # requests that have no answer yet
        self._replies = replies or (Reply(),)
        self._draw = draw

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        return None

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        reply = self._replies[min(len(self.asked_at_s), len(self._replies) - 1)] if self._draw is None else self._draw()
        call.is_sent = not reply.queues
        self.asked_at_s.append(asyncio.get_running_loop().time())
        self.running += 1
        try:
            await asyncio.sleep(reply.after_s)
        finally:
            self.running -= 1
        if reply.error is not None:
            raise reply.error(self.name)
        answer = Answer(batches=self._batches(reply))
        answer.filtered = reply.filtered
        self.open += 1
        answer.on_close(self._close)
        return answer

    async def _batches(self, reply: Reply) -> AsyncGenerator[list[bytes], None]:
        yield [self.name.encode()]
        if reply.breaks is not None:
            raise reply.breaks(self.name)
        yield [b"end"]

    async def _close(self) -> None:
        self.open -= 1


class HedgeRig:
    """One route in virtual time; its deployments are called as they are added, such as ``a@1``."""

    def __init__(self, *, hedge: HedgeConfig | None = None, **route: Any) -> None:
        """Without ``hedge`` the budget is never short. ``route``: its other settings."""
        self.clock = LoopClock()
        self.told = Told()
        self.circuits = MemoryCircuits()
        self.upstreams: dict[str, TimedUpstream] = {}
        self.deployments: dict[str, Deployment] = {}
        settings: dict[str, Any] = {"retry": RetryConfig(max_retries=0), **route}
        self._route = settings | {"hedge": hedge or HedgeConfig(min_samples=10, budget_ratio=1.0, budget_min=1000)}
        self._chain: Chain | None = None

    def add(self, name: str, *replies: Reply, known: int = 50, draw: Callable[[], Reply] | None = None) -> None:
        """One more deployment, ``model@upstream``, of which so many first tokens are ``known``."""
        model, _, upstream = name.partition("@")
        self.upstreams[name] = TimedUpstream(upstream, *replies, draw=draw)
        deployment = self.deployments[name] = Deployment(
            model=model,
            name_there=model,
            weight=1,
            context_tokens=None,
            upstream=self.upstreams[name],
            breaker=Breaker(name, BreakerConfig(), self.circuits, self.told.breaker_changed),
            standing=UpstreamStanding(),
        )
        for _ in range(known):
            deployment.first_tokens.took(USUAL_S, self.clock.monotonic())

    @property
    def chain(self) -> Chain:
        if self._chain is None:
            models = list(dict.fromkeys(one.model for one in self.deployments.values()))
            tiers = [[one for one in self.deployments.values() if one.model == model] for model in models]
            config = RouteConfig(alias="r", chain=models, **self._route)
            self._chain = Chain(config, tiers, lambda: 0.5)
        return self._chain

    async def ask(self, *, stream: bool = True) -> tuple[Answer, Walk]:
        fallback = Fallback(self.clock, self.told)
        return await fallback.respond(self.chain, request(stream=stream))

    async def answered(self) -> tuple[str, Walk, float]:
        """Whose answer came, and when its first token did; it is taken to its end."""
        began_s = self.clock.monotonic()
        answer, walk = await self.ask()
        seconds = self.clock.monotonic() - began_s
        first, *_ = await taken(answer)
        return first.decode(), walk, seconds

    def open_breaker(self, name: str) -> None:
        """Have it fail by itself until its breaker opens."""
        now_s = self.clock.monotonic()
        while (attempt := self.deployments[name].breaker.begin(now_s)) is not None:
            attempt.failed(now_s)

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(upstream.asked_at_s) for name, upstream in self.upstreams.items()}

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(deployment, outcome) for deployment, outcome, _ in self.told.attempts]

    def assert_at_rest(self) -> None:
        """No request runs, no answer is open, no attempt is in flight."""
        for name, upstream in self.upstreams.items():
            in_flight = (self.deployments[name].in_flight, self.circuits.load(name).in_flight)
            assert (upstream.running, upstream.open, in_flight) == (0, 0, (0, 0)), name
