"""What requests have to do with stored answers: which may get one, whose own is kept, and for how long.

Theory. A stored answer may be given where another generation would be as good: where the request is deterministic, or
the route says that it does not matter. What a client asks for goes before that, but never beyond what its route
allows: ``no-cache`` gets a new answer, which is stored in place of the old one; ``no-store`` may get a stored one, and
leaves nothing; ``only`` gets a stored one or an error, and never costs anything.

In shadow mode, what is not deterministic is stored and sought all the same: what is counted is what ``on`` would give.
Only nobody is given it.

An answer is kept under the epochs that were read before it was asked for, so that one that was under way during a
purge is not found after it.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from genkan.cache.cacheable import is_deterministic, is_storable
from genkan.cache.collector import Collected
from genkan.cache.exact import ExactTier, Hit, Look
from genkan.cache.observer import CacheObserver
from genkan.cache.scope import DIGEST_BYTES, Scope, Scopes
from genkan.cache.semantic import SemanticTier
from genkan.cache.sought import Sought
from genkan.cache.stored_answer import StoredAnswer
from genkan.clock import Clock
from genkan.config import CacheConfig, RouteCacheConfig
from genkan.errors import RequestError
from genkan.gateway.boarded import B_co, Boarded
from genkan.gateway.chain import Chain
from genkan.gateway.flights import Flights
from genkan.gateway.reservations import TimeLeft
from genkan.gateway.ticket import Ticket
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

_MOST_LESSONS = 256  # answers that wait to be learnt from; more are not
_log = logging.getLogger("genkan.gateway")


class NotStored(RequestError):
    """The client wants a stored answer or none, and there is none."""

    status = 404
    type = "invalid_request_error"
    code = "cache_miss"
    should_retry = False

    def __init__(self, why: str) -> None:
        super().__init__(f"'genkan.cache' is 'only', and {why}.", param="genkan.cache")


class Likeness(NamedTuple):
    """How like questions are found, and how long that may take."""

    tier: SemanticTier
    timeout_s: float


class AnswerCache:
    """Finds stored answers, shares those that are under way, keeps new ones. For one event loop."""

    def __init__(
        self,
        config: CacheConfig,
        identities: Mapping[str, bytes],
        scopes: Scopes,
        exact: ExactTier,
        flights: Flights,
        clock: Clock,
        observer: CacheObserver,
    ) -> None:
        """``identities`` tell by route what answers it; see `answering_identity`."""
        self.config = config
        self.exact = exact
        self.flights = flights
        self.likeness: Likeness | None = None  # as soon as like questions can be looked for
        self.clock = clock
        self.observer = observer
        self._identities = identities
        self._scopes = scopes
        self._lessons: set[asyncio.Task[None]] = set()

    def visit(self, request: GenerationRequest, caller: Caller, chain: Chain) -> "Visit | None":
        """What the request has to do with stored answers; None: nothing. The look-up is sent now. Raises NotStored."""
        settings = chain.config.cache
        is_left_out = settings.exact == "auto" and settings.semantic == "off" and not is_deterministic(request)
        if is_left_out or settings.exact == "off" or not is_storable(request):
            if request.extras.cache == "only":
                raise NotStored("this request's answers are not stored: it is not deterministic, or not one plain text")
            self.observer.looked(chain.name, "bypass")
            return None
        scope = self._scopes.of(
            request,
            tenant=caller.tenant,
            route=chain.name,
            models=self._identities[chain.identity],
            normalised=settings.normalised,
            per_user=settings.per_user,
        )
        look = self.exact.look(scope, tenant=caller.tenant, route=chain.name, timeout_s=self.config.timeout_s)
        return Visit(self, request, caller.tenant, chain, scope, look)

    def learn(self, lesson: Coroutine[Any, Any, None]) -> None:
        """Do it behind, unless too much waits already."""
        if len(self._lessons) >= _MOST_LESSONS:
            lesson.close()
            self.observer.failed("learn")
            return
        task = asyncio.get_running_loop().create_task(lesson)
        self._lessons.add(task)
        task.add_done_callback(self._learnt)

    async def aclose(self) -> None:
        """Land what flies, and forget what was to be learnt."""
        await self.flights.aclose()
        lessons = [*self._lessons]
        for task in lessons:
            task.cancel()
        await asyncio.gather(*lessons, return_exceptions=True)
        await self.exact.aclose()

    def _learnt(self, task: asyncio.Task[None]) -> None:
        self._lessons.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a bug: an answer could not be learnt from", exc_info=error)


class Visit:
    """One request's dealings with stored answers."""

    __slots__ = (
        "_cache", "_chain", "_look", "_request", "_scope", "_settings", "_sought", "_tenant", "gives", "ttl_s",
    )  # fmt: skip

    def __init__(
        self, cache: AnswerCache, request: GenerationRequest, tenant: str, chain: Chain, scope: Scope, look: Look
    ) -> None:
        self._cache = cache
        self._request = request
        self._tenant = tenant
        self._chain = chain
        self._scope = scope
        self._look = look
        self._settings: RouteCacheConfig = chain.config.cache
        self._sought: Sought | None = None
        #: Whether the client may get what is stored, or what another is given at the moment.
        self.gives = request.extras.cache != "no-cache" and _is_asked_for(request, self._settings)
        usual_s = self._settings.ttl_s or cache.config.ttl_s
        asked_s = request.extras.cache_ttl_s
        self.ttl_s = usual_s if asked_s is None else min(asked_s, max(cache.config.max_ttl_s, usual_s))

    @property
    def is_only(self) -> bool:
        """Whether it wants a stored one or none."""
        return self._request.extras.cache == "only"

    @property
    def label(self) -> bytes:
        """What a client is told that gets a new answer."""
        return b"miss" if self.gives else b"bypass"

    @property
    def keeps(self) -> bool:
        """Whether what it gets is stored."""
        return self._request.extras.cache in ("default", "no-cache")

    async def found(self) -> Hit | None:
        """The stored answer it gets, if there is one; to be awaited once, or never. Raises nothing."""
        hit = await self._look.found()
        if hit is None and self._request.extras.cache != "no-cache":
            hit = await self._like()
        self._cache.observer.looked(self._chain.name, self._result(hit))
        return hit if self.gives else None

    def _result(self, hit: Hit | None) -> str:
        if hit is not None and self.gives:
            return hit.tier
        would_be_hit = hit is not None or (self._sought is not None and self._sought.is_shadow)
        if would_be_hit and self._request.extras.cache != "no-cache":
            return "shadow"
        return "miss" if self.gives else "bypass"

    async def found_meanwhile(self, left: TimeLeft) -> Hit | None:
        """What was stored since `found` looked, for a request that is about to be asked for. Raises nothing.

        Its time is taken from ``left``.
        """
        if not self.gives or not self._cache.config.share_requests:
            return None
        began_s = time.monotonic()
        self._look = self._cache.exact.look(
            self._scope, tenant=self._tenant, route=self._chain.name, timeout_s=self._timeout_s(left)
        )
        hit = await self._look.found()
        left.seconds = max(left.seconds - (time.monotonic() - began_s), 0.0)
        return hit

    def age_s(self, hit: Hit) -> int:
        """How long ago it was stored."""
        return max(0, int(self._cache.clock.unix() - hit.answer.stored_s))

    async def board(
        self,
        ask: Callable[[], Awaitable[B_co]],
        keep: Callable[[Collected | None], None],
        ticket: Ticket,
    ) -> Boarded[B_co]:
        """The answer of ``ask``, or of another request that is the same and under way; see `Flights.answer`.

        ``keep`` is told what an answer of ``ask`` says before its end is given to anybody. Where a budget bounds the
        answer, it is not the same as where none does: it may be cut off. Nor is it after a purge.
        """
        parts = b"%b%b%d" % (self._scope.key, self._look.epochs or b"", ticket.max_tokens or 0)
        key = hashlib.blake2b(parts, digest_size=DIGEST_BYTES).digest()
        alone = not self.gives or not self._cache.config.share_requests
        boarded = await self._cache.flights.answer(
            os.urandom(DIGEST_BYTES) if alone else key,
            self._request,
            ask,
            request_id=ticket.request_id,
            timeout_s=0.0 if alone else self._timeout_s(ticket.redis_left),
            on_complete=keep,
        )
        if boarded.began is None:
            self._cache.observer.coalesced(self._chain.name)
        return boarded

    def _timeout_s(self, left: TimeLeft) -> float:
        return min(left.seconds, self._cache.config.timeout_s)

    async def _like(self) -> Hit | None:
        likeness = self._cache.likeness
        if likeness is None or self._settings.semantic == "off":
            return None
        self._sought = await likeness.tier.find(
            self._request,
            self._scope,
            self._settings,
            tenant=self._tenant,
            route=self._chain.name,
            timeout_s=likeness.timeout_s,
        )
        return self._sought.hit

    def keep(self, collected: Collected | None, deployment: str, cost_nano_usd: int | None) -> None:
        """Store what was answered, if it is the first model's, whole, and one plain text."""
        if (problem := self._problem(collected, deployment)) is not None:
            self._cache.observer.not_stored(self._chain.name, problem)
            answer = None
        else:
            assert collected is not None
            answer = self._stored(collected, deployment, cost_nano_usd)
            self._look.put(answer, ttl_s=self.ttl_s)
        if self._sought is not None and self._cache.likeness is not None:
            self._cache.learn(self._cache.likeness.tier.learn(self._sought, answer))

    def _problem(self, collected: Collected | None, deployment: str) -> str | None:
        if collected is None:
            return "shape"
        if deployment.rpartition("@")[0] != self._chain.config.chain[0]:
            return "fallback"
        if collected.finish_reason != "stop":
            return collected.finish_reason
        return "empty" if not collected.text or collected.usage is None else None

    def _stored(self, collected: Collected, deployment: str, cost_nano_usd: int | None) -> StoredAnswer:
        scope, now_s = self._scope, self._cache.clock.unix()
        return StoredAnswer.of(
            collected,
            is_chat=isinstance(self._request, ChatRequest),
            deployment=deployment,
            cost_nano_usd=cost_nano_usd,
            question=scope.text or "",
            partition=scope.partition,
            exact=scope.exact,
            key=scope.key,
            stored_s=now_s,
            expires_s=now_s + self.ttl_s,
        )


def _is_asked_for(request: GenerationRequest, settings: RouteCacheConfig) -> bool:
    return settings.exact == "on" or settings.semantic == "on" or is_deterministic(request)
