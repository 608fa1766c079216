"""One request through the gateway. The only file that knows the order of the steps.

find the model's or the route's chain → fit the chat into its window, draw its arm → look for a stored answer, and
admit, at once → give it, or share one that is under way, or have it answered → name who answered, and what it cost →
settle, and store.
"""

from functools import lru_cache, partial
from typing import NamedTuple

from genkan.cache.collector import Collected
from genkan.cache.exact import Hit
from genkan.errors import ModelNotFound
from genkan.gateway.admission import Admissions
from genkan.gateway.boarded import Began, Boarded
from genkan.gateway.caching import AnswerCache, NotStored, Visit
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback, Walk
from genkan.gateway.replayed import replayed
from genkan.gateway.router import Router
from genkan.gateway.ticket import Spared, Ticket
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.usage import Usage

Header = tuple[bytes, bytes]
_FREE = ((b"x-genkan-attempts", b"0"), (b"x-genkan-cost-usd", b"0.000000000"))
_BYPASS = b"bypass"  # of an answer that no cache was asked for
_PRIVATE = (b"cache-control", b"private, no-store")  # nobody on the way may store it a second time


class Asked(NamedTuple):
    """An answer that has begun, and how it came about."""

    answer: Answer
    walk: Walk

    @property
    def deployment(self) -> str:
        """Whose it is, as ``model@upstream``."""
        return _answering(self.walk).name

    @property
    def model(self) -> str:
        """Its model, as clients know it."""
        return _answering(self.walk).model


class Found(NamedTuple):
    """A stored answer, in the place of one that has begun."""

    answer: Answer
    hit: Hit

    @property
    def deployment(self) -> str:
        """Whose it was."""
        return self.hit.answer.deployment

    @property
    def model(self) -> str:
        """Its model, as the configuration names it."""
        return _names_of(self.deployment)[0]


class Pipeline:
    """Answers requests by way of the configured upstreams. A Responder."""

    def __init__(
        self, router: Router, fallback: Fallback, admissions: Admissions, cache: AnswerCache | None = None
    ) -> None:
        """Without a ``cache`` nothing is stored."""
        self._router = router
        self._fallback = fallback
        self._admissions = admissions
        self._cache = cache
        self._headers: dict[tuple[str, bytes], list[Header]] = {}

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises ModelNotFound for a name that is neither a model nor a route, or not the caller's."""
        if not caller.may_use(request.model):
            raise ModelNotFound(request.model)
        chain = self._router.resolve(request.model)
        cut: Header | None = None
        if chain.truncation is not None:
            request, cut = await chain.truncation.fitted(request)
        if chain.split is not None:
            chain = chain.split.chain_for(request, caller)
        visit: Visit | None = None
        if self._cache is not None:
            visit = self._cache.visit(request, caller, chain)
        elif request.extras.cache == "only":
            raise NotStored("no answers are stored here")
        ticket = await self._admissions.admit(request, caller, chain)
        if cut is not None:
            ticket.headers.append(cut)
            ticket.is_cut = True
        if visit is not None:
            return await self._visited(visit, chain, request, ticket)
        try:  # as `_ask`, without a coroutine more: most requests pass here
            answer, walk = await self._fallback.respond(chain, request, ticket)
        except BaseException as error:
            ticket.failed(error)
            raise
        ticket.answered(answer, walk.answering)
        return self._named(answer, walk, ticket, _BYPASS)

    async def _visited(self, visit: Visit, chain: Chain, request: GenerationRequest, ticket: Ticket) -> Answer:
        """An answer to a request that may get a stored one, or whose own may be stored."""
        try:
            hit = await visit.found()
            if hit is None and visit.is_only:
                raise NotStored("no answer to this request is stored")
            if hit is not None:
                return self._stored(hit, request, ticket, visit.age_s(hit))
        except BaseException as error:
            ticket.failed(error)
            raise
        if visit.keeps:
            return await self._shared(visit, chain, request, ticket)
        answer, walk = await self._ask(chain, request, ticket)
        return self._named(answer, walk, ticket, visit.label)

    async def _ask(self, chain: Chain, request: GenerationRequest, ticket: Ticket) -> Asked:
        try:
            answer, walk = await self._fallback.respond(chain, request, ticket)
        except BaseException as error:
            ticket.failed(error)
            raise
        ticket.answered(answer, walk.answering)
        return Asked(answer, walk)

    async def _shared(self, visit: Visit, chain: Chain, request: GenerationRequest, ticket: Ticket) -> Answer:
        """Its own answer, or that of another request that is under way and the same, or was a moment ago."""
        own: list[Asked | Found] = []
        is_asked = False  # by the flight: then it settles by itself, whatever becomes of its client

        async def ask() -> Asked | Found:
            nonlocal is_asked
            is_asked = True
            # The look-up was before this request was the one that asks: who asked until then may have stored it since.
            try:
                hit = await visit.found_meanwhile(ticket.redis_left)
            except BaseException as error:
                ticket.failed(error)
                raise
            if hit is None:
                own.append(asked := await self._ask(chain, request, ticket))
                return asked
            own.append(found := Found(self._stored(hit, request, ticket, visit.age_s(hit)), hit))
            return found

        def keep(collected: Collected | None) -> None:
            if isinstance(asked := own[0], Asked):
                visit.keep(collected, asked.deployment, asked.answer.cost_nano_usd)

        try:
            boarded = await visit.board(ask, keep, ticket)
        except BaseException as error:
            if not is_asked:
                ticket.failed(error)
            raise
        answer = boarded.answer
        if isinstance(boarded.began, Asked):
            return self._named(answer, boarded.began.walk, ticket, visit.label)
        if boarded.began is not None:
            return answer
        answer.cost_nano_usd = 0
        answer.fields = {**_who(boarded.deployment), "attempts": 0, "cache": "shared"}
        answer.headers = [
            *self._names(boarded.deployment, b"hit-exact"),
            (b"x-genkan-cache-tier", b"shared"),
            _PRIVATE,
            *ticket.headers,
            *_FREE,
        ]
        answer.on_close(partial(_spare, ticket, boarded))
        return answer

    def _stored(self, hit: Hit, request: GenerationRequest, ticket: Ticket, age_s: int) -> Answer:
        stored, tier = hit
        assert stored.usage is not None  # see StoredAnswer.may_be_stored
        answer = replayed(stored, ticket.request_id, request)
        answer.finish_reason = "stop"  # no other is ever stored
        ticket.spare(Spared(tier, stored.deployment, stored.usage, stored.cost_nano_usd))
        answer.cost_nano_usd = 0
        answer.fields = {**_who(stored.deployment), "attempts": 0, "cache": tier}
        answer.headers = [
            *self._names(stored.deployment, b"hit-semantic" if tier == "semantic" else b"hit-exact"),
            (b"x-genkan-cache-tier", tier.encode()),
            (b"age", b"%d" % age_s),
            _PRIVATE,
            *ticket.headers,
            *_FREE,
        ]
        return answer

    def _named(self, answer: Answer, walk: Walk, ticket: Ticket, cache: bytes) -> Answer:
        deployment = _answering(walk)
        answer.fields = walk.fields  # which tell more at the end, if the answer is gone on with
        answer.fields |= {
            "model": deployment.model, "upstream": deployment.upstream.name, "attempts": walk.attempts,
        }  # fmt: skip
        answer.headers = [
            *self._names(deployment.name, cache),
            (b"x-genkan-attempts", b"%d" % walk.attempts),
            *ticket.headers,
        ]
        if (cost := answer.cost_nano_usd) is not None:
            answer.headers.append((b"x-genkan-cost-usd", f"{cost // 10**9}.{cost % 10**9:09d}".encode()))
        if cache is not _BYPASS:
            answer.fields["cache"] = cache.decode()
        if ticket.is_cut:
            answer.fields["truncated"] = True
        if (arm := walk.chain.arm) is not None:
            answer.fields["arm"] = arm.name
        if walk.hedged is not None:
            answer.fields["hedged"] = walk.hedged
            answer.headers.append((b"x-genkan-hedged", walk.hedged.encode()))
        if (reason := walk.fell_back_because) is not None:
            answer.fields["fallback"] = reason
            answer.headers.append((b"x-genkan-fallback", reason.encode()))
        return answer

    def _names(self, deployment: str, cache: bytes) -> list[Header]:
        headers = self._headers.get((deployment, cache))
        if headers is None:
            model, upstream = _names_of(deployment)
            headers = self._headers[deployment, cache] = [
                (b"x-genkan-model", model.encode()),
                (b"x-genkan-upstream", upstream.encode()),
                (b"x-genkan-cache", cache),
            ]
        return headers


def _answering(walk: Walk) -> Deployment:
    deployment = walk.answered_by
    assert deployment is not None  # an answer comes from somewhere
    return deployment


@lru_cache(maxsize=1024)
def _names_of(deployment: str) -> tuple[str, str]:
    model, _, upstream = deployment.rpartition("@")
    return model, upstream


def _who(deployment: str) -> dict[str, object]:
    """For the log."""
    model, upstream = _names_of(deployment)
    return {"model": model, "upstream": upstream}


async def _spare(ticket: Ticket, boarded: Boarded[Began]) -> None:
    """Settle a request that got another's answer, of which only its end says what it took."""
    ticket.spare(Spared("shared", boarded.deployment, Usage.read(boarded.answer.usage), None), boarded.state)
