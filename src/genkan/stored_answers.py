"""Stored answers, constructed: where they are kept, who shares them, and how like questions are found."""

from collections.abc import Mapping
from pathlib import Path

from genkan.books import redis_url
from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.score_file import read_score
from genkan.cache.exact import ExactTier
from genkan.cache.index.base import VectorIndex
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.index.probe import index_in
from genkan.cache.judge import Judge
from genkan.cache.judge_budget import JudgeBudget
from genkan.cache.observer import CacheObserver
from genkan.cache.scope import Scopes
from genkan.cache.score import Score
from genkan.cache.sealer import Sealer
from genkan.cache.semantic import SemanticTier
from genkan.clock import Clock
from genkan.config import Config
from genkan.errors import ConfigError
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.caching import AnswerCache, Likeness
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.flights import Flights
from genkan.gateway.judging import asking, question_vectors
from genkan.store.address import Address, parse_address
from genkan.store.answers import Answers
from genkan.store.memory_answers import MemoryAnswers
from genkan.store.redis_answers import RedisAnswers
from genkan.store.resp import RespClient
from genkan.upstream.base import Responder
from genkan.upstream.embeddings import Embeds

_MEMORY_BYTES = 64 << 20  # of answers, where there is no Redis
_CALM_S = 2.0


class StoredAnswers:
    """All of it, for one worker. ``start`` in the event loop that will use it, ``aclose`` at the end."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], secret: bytes, clock: Clock, observer: CacheObserver
    ) -> None:
        """``secret`` is that of the API keys: replicas that share answers have the same. Raises ConfigError."""
        self._config = config
        self._clock = clock
        self._observer = observer
        self._address = _address(config, environ)
        self._sealer = Sealer(secret, encrypt=config.cache.encrypt)
        self._clients: list[RespClient] = []
        self._index: VectorIndex | None = None
        self._judge: Judge | None = None
        self._score = score_of(config)
        relay: FlightRelay | None = None
        if self._address is None:
            self.answers: Answers = MemoryAnswers(clock, limit_bytes=_MEMORY_BYTES)
        else:
            redis, client = config.redis, self._client(self._address, config.cache.timeout_s)
            self.answers = RedisAnswers(client, prefix=redis.prefix)
            relay = FlightRelay(
                client,
                self._address,
                self._sealer,
                prefix=redis.prefix,
                connect_s=redis.connect_s,
                timeout_s=redis.timeout_s,
            )
        exact = ExactTier(self.answers, self._sealer, clock, observer, max_answer_bytes=config.cache.max_answer_bytes)
        self.cache = AnswerCache(
            config.cache,
            answering_identities(config),
            Scopes(secret),
            exact,
            Flights(relay),
            clock,
            observer,
        )

    async def start(self, responder: Responder, embeds: Embeds | None) -> None:
        """Connect, and begin to hear of like questions. ``responder`` is asked for verdicts, ``embeds`` for vectors."""
        for client in self._clients:
            await client.start()
        await self.cache.flights.start()
        seeks = any(route.cache.semantic != "off" for route in self._config.routes)
        if embeds is not None and self._config.embedder is not None and seeks:
            self._index = await self._started_index()
            self._judge = await self._started_judge(responder)
            tier = SemanticTier(
                self._index,
                question_vectors(embeds),
                self.cache.exact,
                self._score,
                clock=self._clock,
                observer=self._observer,
                judge=self._judge,
            )
            self.cache.likeness = Likeness(tier, self._config.embedder.question_s)

    async def aclose(self) -> None:
        """End what is under way, and disconnect."""
        await self.cache.aclose()
        if self._judge is not None:
            await self._judge.aclose()
        if self._index is not None:
            await self._index.aclose()
        for client in self._clients:
            await client.aclose()

    async def statistics(self) -> Mapping[str, object]:
        """What is stored, over all workers, and what this one knows of like questions. Raises StoreError."""
        kept = await self.answers.statistics()
        told: dict[str, object] = {"entries": kept.entries, "bytes": kept.n_bytes, "is_complete": kept.is_complete}
        if self._index is not None:
            told["questions"] = self._index.statistics()._asdict()
        return told

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        """Make what was stored until now unreadable: a tenant's, a route's, both; without either, all.

        Raises StoreError.
        """
        await self.cache.exact.purge(tenant=tenant, route=route)
        if self._index is not None:
            await self._index.purge(tenant=tenant, route=route)

    def _client(self, address: Address, timeout_s: float) -> RespClient:
        client = RespClient(address, connect_s=self._config.redis.connect_s, timeout_s=timeout_s)
        self._clients.append(client)
        return client

    async def _started_index(self) -> VectorIndex:
        config, redis = self._config, self._config.redis
        if self._address is None:
            index: VectorIndex = MemoryIndex(self._clock, self._observer, max_entries=config.cache.index_entries)
        else:
            # On a connection of its own: a request must not wait behind what is learnt.
            client = self._client(self._address, max(redis.timeout_s, _CALM_S))
            await client.start()
            assert config.embedder is not None
            index = await index_in(
                client,
                self._address,
                wanted=config.cache.index,
                prefix=redis.prefix,
                embedder=f"{config.embedder.model} {config.embedder.prefix}",
                sealer=self._sealer,
                clock=self._clock,
                observer=self._observer,
                longest_s=_longest_ttl_s(config),
                max_entries=config.cache.index_entries,
                connect_s=redis.connect_s,
                timeout_s=max(redis.timeout_s, _CALM_S),
            )
        await index.start()
        return index

    async def _started_judge(self, responder: Responder) -> Judge | None:
        config = self._config.cache.judge
        if config is None:
            return None
        budget = JudgeBudget(per_minute=config.per_minute, usd_per_day=config.usd_per_day)
        judge = Judge(
            asking(responder, config.model),
            budget,
            share=config.share,
            clock=self._clock,
            observer=self._observer,
        )
        await judge.start()
        return judge


def _longest_ttl_s(config: Config) -> float:
    routes = (route.cache.ttl_s or 0.0 for route in config.routes)
    return max(config.cache.max_ttl_s, config.cache.ttl_s, *routes)


def score_of(config: Config) -> Score:
    """The score that ``cache.score`` names, or the one that is built in. Raises ConfigError."""
    if config.cache.score is None:
        return MULTILINGUAL_E5_SMALL
    path = Path(config.cache.score)
    try:
        score = read_score(path)
    except OSError as error:
        raise ConfigError("cache.score", f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError("cache.score", str(error)) from None
    fitted_for = score.version.partition("/")[0]
    if config.embedder is not None and fitted_for != config.embedder.name:
        raise ConfigError("cache.score", f"{path} was fitted for {fitted_for}; embedder.name is {config.embedder.name}")
    return score


def _address(config: Config, environ: Mapping[str, str]) -> Address | None:
    variable = config.cache.url_env
    if variable is None:
        url = redis_url(config, environ)
        return None if url is None else parse_address(url, config.redis.sentinels)
    if not environ.get(variable):
        raise ConfigError("cache.url_env", f"the environment variable {variable} is not set")
    return parse_address(environ[variable], [])
