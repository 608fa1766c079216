"""Upstreams that do as they are told, deployments and chains made of them, and a clock that only sleeping moves."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from genkan.config import BreakerConfig, Config, DeploymentConfig, ModelConfig, RetryConfig, RouteConfig
from genkan.errors import (
    ConnectFailed,
    TimedOut,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamFull,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.gateway.breaker import Breaker, MemoryCircuits, State
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.fallback import Fallback, Walk
from genkan.gateway.meter import Meter
from genkan.gateway.prices import PriceBook
from genkan.gateway.router import Router
from genkan.gateway.standing import UpstreamStanding
from genkan.upstream.base import NO_CALL, Answer, Call, Responder, Way
from genkan.wire.answers import AnswerStream, WholeAnswer
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.said import Said

Fails = Callable[[str], UpstreamError]  # the error, given the upstream's name


class VirtualClock:
    """Stands still but for who sleeps on it."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def unix(self) -> float:
        return self.now_s + 1.7e9

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.sleep(0)
        self.now_s += seconds


@dataclass(frozen=True)
class Turn:
    """What an upstream does when it is asked once. It answers, if nothing else is said."""

    error: Fails | None = None
    filtered: bool = False
    breaks: Fails | None = None  # of a stream: after its first batch
    takes_s: float = 0.0
    hangs: bool = False  # until it is cancelled
    queues: bool = False  # then it has sent nothing by then
    hangs_at_close: bool = False
    hangs_within: bool = False  # of a stream: after its first batch


ANSWERS = Turn()
FILTERED = Turn(filtered=True)
HANGS = Turn(hangs=True)
QUEUES = Turn(hangs=True, queues=True)


def unreachable(upstream: str) -> UpstreamError:
    return ConnectFailed("unreachable", upstream=upstream)


def full(upstream: str) -> UpstreamError:
    return UpstreamFull(upstream=upstream, limit=1, queue=0)


def broken(upstream: str) -> UpstreamError:
    return UpstreamBroken("no answer", upstream=upstream)


def unauthorized(upstream: str) -> UpstreamError:
    return UpstreamUnauthorized("no key", upstream=upstream)


def forbidden(upstream: str) -> UpstreamError:
    return UpstreamForbidden("not for this key", upstream=upstream)


def quota(upstream: str) -> UpstreamError:
    return UpstreamQuota("spent", upstream=upstream)


def misconfigured(upstream: str) -> UpstreamError:
    return UpstreamMisconfigured("no such model", upstream=upstream)


def slow(upstream: str) -> UpstreamError:
    return TimedOut(upstream=upstream, phase="first_token", limit_s=1.0)


def failed(status: int = 500, retry_after_s: float | None = None) -> Fails:
    return lambda upstream: UpstreamFailed(upstream=upstream, status_there=status, retry_after_s=retry_after_s)


def throttled(retry_after_s: float | None = None) -> Fails:
    return lambda upstream: UpstreamThrottled(upstream=upstream, retry_after_s=retry_after_s)


def refused(code: str | None = None, status: int = 400, retry_after_s: float | None = None) -> Fails:
    return lambda upstream: UpstreamRefused(
        "refused", upstream=upstream, status=status, kind="invalid_request_error", code=code, param=None,
        retry_after_s=retry_after_s,
    )  # fmt: skip


class ScriptedUpstream:
    """An Upstream that takes its turns in order, the last one for ever."""

    def __init__(self, name: str, clock: VirtualClock, *turns: Turn | Fails) -> None:
        self.name = name
        self.asked: list[tuple[str, float]] = []  # the model's name there, and the time it was given
        self.asked_at_s: list[float] = []
        self.open = 0  # answers that nobody has closed
        self.entered = asyncio.Event()  # somebody waits for one of the turns that hang
        self._clock = clock
        self._turns = [turn if isinstance(turn, Turn) else Turn(error=turn) for turn in turns or (ANSWERS,)]

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        return None

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        turn = self._turns[min(len(self.asked), len(self._turns) - 1)]
        call.is_sent = not turn.queues
        self.asked.append((model, total_s))
        self.asked_at_s.append(self._clock.now_s)
        await asyncio.sleep(0)
        self._clock.now_s += turn.takes_s
        if turn.hangs:
            await self._hang()
        if turn.error is not None:
            raise turn.error(self.name)
        answer = Answer(batches=self._batches(turn)) if request.stream else Answer(body=self.name.encode())
        answer.filtered = turn.filtered
        self.open += 1
        answer.on_close(lambda: self._close(turn))
        return answer

    async def _batches(self, turn: Turn) -> AsyncGenerator[list[bytes], None]:
        yield [self.name.encode()]
        if turn.breaks is not None:
            raise turn.breaks(self.name)
        if turn.hangs_within:
            await self._hang()
        yield [b"end"]

    async def _close(self, turn: Turn) -> None:
        self.open -= 1
        if turn.hangs_at_close:
            await self._hang()

    async def _hang(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()


@dataclass
class Told:
    """A GatewayObserver that remembers."""

    attempts: list[tuple[str, str, float]] = field(default_factory=list)
    first_tokens: list[tuple[str, float]] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    fallbacks: list[tuple[str, str]] = field(default_factory=list)
    changes: list[tuple[str, State, State]] = field(default_factory=list)
    resumes: list[tuple[str, str, str]] = field(default_factory=list)
    hedges: list[tuple[str, str]] = field(default_factory=list)

    def attempted(self, deployment: str, outcome: str, seconds: float) -> None:
        self.attempts.append((deployment, outcome, seconds))

    def first_token(self, deployment: str, seconds: float) -> None:
        self.first_tokens.append((deployment, seconds))

    def retried(self, deployment: str) -> None:
        self.retries.append(deployment)

    def fell_back(self, route: str, reason: str) -> None:
        self.fallbacks.append((route, reason))

    def resumed(self, route: str, way: str, outcome: str) -> None:
        self.resumes.append((route, way, outcome))

    def hedged(self, route: str, outcome: str) -> None:
        self.hedges.append((route, outcome))

    def breaker_changed(self, deployment: str, before: State, after: State) -> None:
        self.changes.append((deployment, before, after))

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(deployment.partition("@")[0], outcome) for deployment, outcome, _ in self.attempts]


class Place:
    """A deployment, named like its model, on a scripted upstream of its own."""

    def __init__(
        self,
        name: str,
        clock: VirtualClock,
        told: Told,
        *turns: Turn | Fails,
        weight: int = 1,
        context_tokens: int | None = None,
        breaker: BreakerConfig | None = None,
    ) -> None:
        self.upstream = ScriptedUpstream(f"{name}.up", clock, *turns)
        self.circuits = MemoryCircuits()
        self._clock = clock
        full_name = f"{name}@{self.upstream.name}"
        self.deployment = Deployment(
            model=name,
            name_there=f"{name}-there",
            weight=weight,
            context_tokens=context_tokens,
            upstream=self.upstream,
            breaker=Breaker(full_name, breaker or BreakerConfig(), self.circuits, told.breaker_changed),
            standing=UpstreamStanding(unhealthy_after=2),
        )

    @property
    def in_flight(self) -> int:
        return self.circuits.load(self.deployment.name).in_flight

    @property
    def state(self) -> str:
        return self.deployment.breaker.state(self._clock.now_s)

    def open_breaker(self, now_s: float) -> None:
        """Have it fail by itself until its breaker opens, ``now_s``."""
        while (attempt := self.deployment.breaker.begin(now_s)) is not None:
            attempt.failed(now_s)


class Rig:
    """One chain of places, in order, and everything that happens on it."""

    def __init__(self, **route: Any) -> None:
        """``route``: the settings of the route, but for its alias and chain."""
        self.clock = VirtualClock()
        self.told = Told()
        self.places: dict[str, Place] = {}
        self._route = route

    def add(self, name: str, *turns: Turn | Fails, **how: Any) -> Place:
        """One more place at the end of the chain; ``how`` as Place's."""
        place = self.places[name] = Place(name, self.clock, self.told, *turns, **how)
        self._chain: Chain | None = None
        return place

    @property
    def chain(self) -> Chain:
        if self._chain is None:
            config = RouteConfig(alias="r", chain=list(self.places), **self._route)
            self._chain = Chain(config, [[place.deployment] for place in self.places.values()])
        return self._chain

    async def ask(self, *, stream: bool = False) -> tuple[Answer, Walk]:
        return await Fallback(self.clock, self.told, self.clock.sleep).respond(self.chain, request(stream=stream))

    async def answered_by(self, *, stream: bool = False) -> str:
        """Who answers; the answer is taken to its end and closed."""
        answer, walk = await self.ask(stream=stream)
        await taken(answer)
        assert walk.answered_by is not None
        return walk.answered_by.model

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(place.upstream.asked) for name, place in self.places.items()}

    def is_at_rest(self) -> bool:
        """Whether nothing is left over: no attempt in flight, no answer open."""
        return all(place.in_flight == 0 and place.upstream.open == 0 for place in self.places.values())


async def taken(answer: Answer) -> list[bytes]:
    """All of an answer, which is closed then."""
    try:
        if answer.batches is None:
            return [answer.body or b""]
        return [data async for batch in answer.batches for data in batch]
    finally:
        await answer.aclose()


def request(*, stream: bool = False, model: str = "r") -> ChatRequest:
    raw = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    return ChatRequest.parse(orjson.dumps(raw))


def no_retries(**settings: Any) -> RetryConfig:
    return RetryConfig(max_retries=0, **settings)


class ServedBy:
    """A Responder as an Upstream, whose answers are followed as those of an HTTP upstream are."""

    def __init__(self, responder: Responder, name: str = "engine") -> None:
        self.name = name
        self.models: list[str] = []  # by the names they have there
        self.calls: list[Call] = []
        self._responder = responder

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        return None

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        self.models.append(model)
        self.calls.append(call)
        call.is_sent = True
        answer = await self._responder.respond(request)
        if answer.batches is None:
            answer.usage = WholeAnswer(answer.body or b"").usage
        else:
            answer.on_close(answer.batches.aclose)
            answer.batches = self._followed(answer, answer.batches, show_usage=request.include_usage)
        return answer

    async def _followed(
        self, answer: Answer, batches: AsyncGenerator[list[bytes], None], *, show_usage: bool
    ) -> AsyncGenerator[list[bytes], None]:
        follower = AnswerStream(choices=1, show_usage=show_usage)
        async for payloads in batches:
            batch = follower.take(payloads)
            answer.usage, answer.pieces, answer.text_bytes = follower.usage, follower.pieces, follower.text_bytes
            if batch:
                yield batch


def router_to(
    config: Config, upstreams: Sequence[Any], meter: Callable[[str, DeploymentConfig], Meter | None] | None = None
) -> Router:
    """The router of ``config`` whose deployments are on these upstreams, found by name.

    ``meter`` makes what keeps a deployment, by its name, within its limits.
    """
    by_name = {upstream.name: upstream for upstream in upstreams}
    circuits = MemoryCircuits()
    prices = PriceBook(config.prices)

    def deploy(model: ModelConfig, place: DeploymentConfig) -> Deployment:
        name = f"{model.name}@{place.upstream}"
        return Deployment(
            model=model.name,
            name_there=place.model or model.name,
            weight=place.weight,
            context_tokens=model.context_tokens,
            upstream=by_name[place.upstream],
            breaker=Breaker(name, BreakerConfig(), circuits),
            standing=UpstreamStanding(),
            price=prices.price(model.name, upstream=place.upstream, name_there=place.model or model.name),
            max_output_tokens=model.max_output_tokens,
            meter=None if meter is None else meter(name, place),
            resume_group=model.resume_group,
        )

    embedder = None if config.embedder is None else EmbeddingModel(config.embedder, prices)
    return Router(config, deploy, embedder)
