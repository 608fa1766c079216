"""The composition root: from a configuration to what each process runs. Here, in `fleet.py` for upstreams, `books.py`
for accounts, `stored_answers.py`, `observing.py` and `engine_assembly.py` things are constructed, and nowhere else.

A worker process builds one of the two and drives it by ``asgi``, ``start`` and ``aclose``; the engine also says when it
is ``ready``, which BentoML asks of it directly.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Protocol

from genkan.api.admin import EnginePrefixCacheEndpoint, PrefixCacheEndpoint
from genkan.api.admin_cache import CacheEndpoint
from genkan.api.admin_canary import CANARY_PATH, CanaryEndpoint
from genkan.api.admin_cost import CostEndpoint
from genkan.api.admin_drain import DRAIN_PATH, DrainEndpoint
from genkan.api.admin_keys import AdminKeys
from genkan.api.admin_ledger import LedgerEndpoint
from genkan.api.admin_limits import LimitsEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.batch_predict import BatchPredictEndpoint
from genkan.api.embeddings import EmbeddingEndpoint
from genkan.api.exchange import Exchange, Receive, Scope, Send
from genkan.api.generation import GenerationEndpoint
from genkan.api.health import Health
from genkan.api.models import LIST_PATH, ModelEndpoints
from genkan.api.native import NativeEndpoint
from genkan.api.openapi import with_openapi
from genkan.api.routes import Api, Endpoint, PathTable
from genkan.api.tokenize import TokenizeEndpoint
from genkan.books import Books
from genkan.canaries import Canaries
from genkan.clock import Clock, SystemClock
from genkan.config import Config, ServerConfig
from genkan.engine_assembly import EngineAssembly
from genkan.fleet import Fleet
from genkan.gateway.embedding import Embeddings
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router
from genkan.model_servers.scrape import ServerScraper
from genkan.observing import Observing
from genkan.server.drain import DrainPage
from genkan.serving.loading import LoadingModel
from genkan.serving.served_models import ServedModels
from genkan.store.accounts import Plan
from genkan.stored_answers import StoredAnswers
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.account_metrics import AccountMetrics
from genkan.telemetry.cache_metrics import CacheMetrics
from genkan.telemetry.canary_metrics import CanaryMetrics
from genkan.telemetry.gateway_metrics import GatewayMetrics
from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.telemetry.tally import Tally
from genkan.upstream.check import check
from genkan.upstream.embeddings import Embeds
from genkan.upstream.local import PREFIX_CACHE_PATH, TENANT_HEADER
from genkan.upstream.siblings import Siblings
from genkan.upstream.token_count import TOKENIZE_PATH
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest, CompletionRequest
from genkan.wire.embeddings import EmbeddingRequest

_TENANT_HEADER = TENANT_HEADER.encode()
#: Whose requests are work for a model: what an overloaded worker refuses.
_MODEL_PATHS = (ChatRequest.path, CompletionRequest.path, EmbeddingRequest.path, "/call", "/batch_predict")
_log = logging.getLogger("genkan.app")


class Asgi(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class GatewayProcess:
    """The HTTP face in front of the upstreams. Never imports torch."""

    def __init__(
        self,
        config: Config,
        engine_socket: str | None,
        environ: Mapping[str, str] = os.environ,
        embedder_socket: str | None = None,
        drain: DrainPage | None = None,
        servers_socket: str | None = None,
    ) -> None:
        """A socket is None where the configuration has no such process; ``environ`` holds the upstreams' keys.

        ``drain`` is the page of the server that this is a worker of, if it is of one; ``servers_socket`` that of the
        model servers' process, where nothing but them can answer.
        """
        self._drain = DrainPage.private() if drain is None else drain
        server = config.server
        tally, clock = Tally(), SystemClock()
        metrics = GatewayMetrics(tally)
        self._books = books = Books(config, environ, clock, AccountMetrics(tally))
        self._fleet = fleet = Fleet(config, engine_socket, environ, clock, metrics, books)
        self._config = config
        self._environ = environ
        self._start_check: asyncio.Task[None] | None = None
        self._embeds = fleet.embeds(embedder_socket)
        self._scraper = ServerScraper(config.openai_upstreams)
        needed = {"engine": engine_socket, "servers": servers_socket}
        self._siblings = Siblings(
            {name: socket for name, socket in needed.items() if socket is not None},
            {} if embedder_socket is None else {"embedder": embedder_socket},
        )
        self._stored: StoredAnswers | None = None
        if config.cache.enabled:
            self._stored = StoredAnswers(config, environ, books.secret, clock, CacheMetrics(tally))
        self._canaries = canaries = Canaries(config, environ, clock, CanaryMetrics(tally))
        router = Router(
            config,
            fleet.deploy,
            None if config.embedder is None else EmbeddingModel(config.embedder, books.prices),
            experiment=canaries.experiment,
            estimator_of=books.admissions.estimator_of,
        )
        self._pipeline = pipeline = Pipeline(
            router,
            Fallback(clock, metrics),
            books.admissions,
            None if self._stored is None else self._stored.cache,
        )
        health = Health()
        door = Doorkeeper(server, books.ring, required=config.keys.required, tenants=config.tenants, clock=clock)
        self._observing = observing = Observing(
            config, environ, tally, fleet, router, told=health, may_shed=_MODEL_PATHS
        )
        self.shedding = observing.shedding
        table: PathTable = {
            **_generation(pipeline, config, observing.gen_ai),
            EmbeddingRequest.path: {"POST": _embeddings(config, self._embeds, router, books)},
            **_lists(ModelEndpoints(router, books.prices), health),
            **_admin(config, books, fleet, self._stored, clock),
            **_canary_table(config, canaries),
            **_drain_table(self._drain, server, clock),
        }
        self.asgi: Asgi = observing.api(with_openapi(table, server), door.admit)

    async def start(self) -> None:
        self._observing.start()
        await self._books.start()
        await self._fleet.start()
        if self._stored is not None:
            await self._stored.start(self._pipeline, self._embeds)
        await self._canaries.start(self._pipeline)
        await self._siblings.start()
        self._start_check = asyncio.create_task(_say_what_is_wrong(self._config, self._environ))

    async def aclose(self) -> None:
        if self._start_check is not None:
            self._start_check.cancel()
        self._observing.stop()
        await self._siblings.aclose()
        await self._scraper.aclose()
        await self._canaries.aclose()
        if self._stored is not None:
            await self._stored.aclose()
        if self._embeds is not None:
            await self._embeds.aclose()
        await self._fleet.aclose()
        await self._books.aclose()
        self._observing.close()

    @property
    def ready(self) -> bool:
        """Whether the processes beside it are: the engine now, the embedder once; without it only few requests fail.
        Where model servers of ours are all there is, one of them must be well.

        It is not while the server drains.
        """
        return self._siblings.are_ready and not self._drain.is_draining

    def flush_metrics(self) -> None:
        """Write what was counted so far to where BentoML shows it from."""
        self._observing.flush()

    async def server_metrics(self) -> str:
        """What model servers of ours say of themselves, to stand behind our own metrics; empty where there are none."""
        return await self._scraper.text()


def _generation(pipeline: Pipeline, config: Config, metrics: GenAiMetrics) -> PathTable:
    server = config.server
    logged = frozenset(route.alias for route in config.routes if route.log_content == "redacted")
    return {
        ChatRequest.path: {"POST": GenerationEndpoint(ChatRequest.parse, pipeline, server, logged)},
        CompletionRequest.path: {"POST": GenerationEndpoint(CompletionRequest.parse, pipeline, server, logged)},
        "/call": {"POST": NativeEndpoint(pipeline, server, logged)},
        "/batch_predict": {"POST": BatchPredictEndpoint(pipeline, server, metrics)},
    }


def _embeddings(config: Config, embeds: Embeds | None, router: Router, books: Books) -> EmbeddingEndpoint:
    if config.embedder is None or embeds is None or router.embedder is None:
        return EmbeddingEndpoint(None, config.server)
    embeddings = Embeddings(embeds, router.embedder, router, books.admissions, timeout_s=config.embedder.timeout_s)
    return EmbeddingEndpoint(embeddings, config.server, max_inputs=config.embedder.max_inputs)


def _lists(models: ModelEndpoints, health: Health) -> PathTable:
    return {
        LIST_PATH: {"GET": models.list_all},
        f"{LIST_PATH}/*": {"GET": models.get_one},
        "/models": {"GET": models.list_native},
        "/health": {"GET": health.health},
        "/": {"GET": health.index},
    }


def _admin(config: Config, books: Books, fleet: Fleet, stored: StoredAnswers | None, clock: Clock) -> PathTable:
    keys = AdminKeys(books.issuer, books.ring, config.server, clock)
    ledger = LedgerEndpoint(books.reading, clock, keep_days=config.ledger.keep_days)
    limits = LimitsEndpoint(books.reading, lambda: chain(books.groups(), _deployments(fleet)))
    table: dict[str, dict[str, Endpoint]] = {
        "/admin/keys": {"GET": keys.list_all, "POST": keys.create},
        "/admin/keys/*": {"DELETE": keys.revoke, "POST": keys.rotate},
        "/admin/limits": {"GET": limits.get},
        "/admin/ledger": {"GET": ledger.rows},
        "/admin/savings": {"GET": ledger.savings},
        "/admin/cost/report": {"GET": ledger.report},
        "/admin/cost/compare": {"GET": CostEndpoint(books.prices).compare},
    }
    if stored is not None:
        cache = CacheEndpoint(stored)
        table["/admin/cache"] = {"GET": cache.get, "DELETE": cache.delete}
    if fleet.engine is not None:
        prefix_cache = PrefixCacheEndpoint(fleet.engine)
        table[PREFIX_CACHE_PATH] = {"GET": prefix_cache.get, "DELETE": prefix_cache.delete}
    return table


def _canary_table(config: Config, canaries: Canaries) -> PathTable:
    endpoint = CanaryEndpoint(canaries, config.server)
    return {
        CANARY_PATH: {"GET": endpoint.list_all},
        f"{CANARY_PATH}/*": {"GET": endpoint.get_one, "POST": endpoint.decide},
    }


def _drain_table(page: DrainPage, server: ServerConfig, clock: Clock) -> PathTable:
    endpoint = DrainEndpoint(page, server, clock)
    return {DRAIN_PATH: {"GET": endpoint.get, "POST": endpoint.drain, "DELETE": endpoint.undo}}


def _deployments(fleet: Fleet) -> Iterator[tuple[str, Plan]]:
    return ((f"deployment {name}", plan) for name, plan in fleet.plans.items() if plan)


async def _say_what_is_wrong(config: Config, environ: Mapping[str, str]) -> None:
    """Log what ``genkan check`` would say of the upstreams, once, while requests are already served."""
    ours = {upstream.name for upstream in config.openai_upstreams if upstream.serve is not None}
    for finding in await check(config, environ):
        if finding.level != "ok" and finding.upstream not in ours:  # they are only being started
            _log.log(logging.ERROR if finding.level == "error" else logging.WARNING, "%s: %s", finding.upstream,
                     finding.message)  # fmt: skip


class EngineProcess:
    """The engine's models, and the OpenAI face they show to the gateway on their socket."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._access_log = AccessLog(config.telemetry, logging.DEBUG)  # the gateway's line says it all
        assembly = EngineAssembly(config, _end_process)
        self._models = ServedModels({name: LoadingModel(partial(assembly.load, name), name) for name in assembly.names})
        prefix_cache = EnginePrefixCacheEndpoint(self._models)
        # The gateway has applied its limits: what it passes on is the same body written anew, and it reads an answer
        # as slowly as its own client does.
        limits = {"max_body_bytes": 2 * config.server.max_body_bytes, "send_timeout_s": float("inf")}
        server = config.server.model_copy(update=limits)
        self.asgi: Asgi = Api(
            {
                ChatRequest.path: {"POST": GenerationEndpoint(ChatRequest.parse, self._models, server)},
                CompletionRequest.path: {"POST": GenerationEndpoint(CompletionRequest.parse, self._models, server)},
                TOKENIZE_PATH: {"POST": TokenizeEndpoint(self._models, server)},
                PREFIX_CACHE_PATH: {"GET": prefix_cache.get, "DELETE": prefix_cache.delete},
            },
            _admit_all,
            access_log=self._access_log,
        )

    async def start(self) -> None:
        self._access_log.start()
        self._models.start()

    async def aclose(self) -> None:
        self._models.stop()
        self._access_log.close()

    @property
    def ready(self) -> bool:
        return self._models.ready

    def flush_metrics(self) -> None:
        """The engine's are written as they change."""


def _end_process() -> None:
    """Nobody can be served any more: end in good order, and BentoML starts another in this one's place."""
    os.kill(os.getpid(), signal.SIGTERM)


def _admit_all(exchange: Exchange) -> None:
    """The engine's socket lies in a folder that only this user can enter: what the gateway says of a tenant is true."""
    tenant = exchange.header(_TENANT_HEADER)
    if tenant is not None:
        exchange.caller = Caller(exchange.request_id, tenant=tenant.decode("ascii"))
