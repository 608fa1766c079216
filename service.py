"""The BentoML services: what `bentoml serve`, `bentoml build` and the Bento start. Thin; `genkan.app` has the parts."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

HERE = Path(__file__).parent
if (HERE / "genkan").is_dir() and "genkan" in sys.modules:
    # In a Bento the package lies beside this file. To tell a tag from a module, `bentoml serve genkan:latest` imports
    # whatever "genkan" is installed first; the Bento's own must win. Only the empty top package was loaded by that.
    del sys.modules["genkan"]

from genkan.app import EngineProcess, GatewayProcess
from genkan.books import URL_VARIABLE, redis_url
from genkan.config import PATH_VARIABLE, EmbedderConfig, config_path, load
from genkan.embedding.model_path import is_local, model_path
from genkan.embedding.process import EmbedderProcess
from genkan.engine.kernels.build import check_kernels
from genkan.engine.kv_memory import check_memory
from genkan.engine.load.source import locate
from genkan.engine.load.window import check_window
from genkan.errors import ConfigError, ModelFileError
from genkan.gateway.key_secret import load_secret
from genkan.model_servers.fleet_process import ModelServersProcess, check_servers, only_served
from genkan.model_servers.replicas import with_replicas
from genkan.model_store import share_stored
from genkan.preflight import check_settings, check_variables
from genkan.server import accepting, early_refusal, http_protocol
from genkan.server.arbiter import lead
from genkan.server.drain import page_of_server
from genkan.server.drain_watch import DrainWatch, draining_gauge
from genkan.server.front import BatchingService, FrontedService, collect_less, end_with_parent, name_parent, socket_path
from genkan.server.http_server import HttpServer
from genkan.store.embedded import EmbeddedRedis
from genkan.telemetry import logging
from genkan.telemetry.embedder_metrics import EmbedderMetrics
from genkan.upstream.embedder import EMBED_PATH

path = config_path(beside=HERE).resolve()
try:
    loaded = load(path)
    config = with_replicas(loaded)
except ConfigError as error:
    sys.exit(f"genkan: {path}: {error}")
os.environ[PATH_VARIABLE] = str(path)  # workers inherit it, and may start in another folder
accepting.install(config.server.workers)
share_stored(config)
embedder_config = config.embedder or EmbedderConfig()

#: BentoML drops requests that would wait longer, by an estimate that jumps when texts differ in length. Our own door
#: bounds the queue, so this never comes into play.
BATCH_LATENCY_MS = 600_000

#: Said of an answer, it saves BentoML from working out a schema for each, which takes longer than all the rest.
_JSON = ContentType("application/json")


#: What has outlasted its grace is told so in this time, and then its parts are closed.
LAST_ANSWERS_S = 1.5


class Worker:
    """What all services do around their process."""

    process: EngineProcess | EmbedderProcess | GatewayProcess | ModelServersProcess

    @bentoml.on_startup
    async def start(self) -> None:
        self.server = HttpServer.of_this_process()
        self.server.limit_grace(config.server.drain.grace_s)
        await self.process.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.server.wait_for_answers(LAST_ANSWERS_S)
        await self.process.aclose()


@bentoml.service(name="genkan_engine", service_class=FrontedService, workers=1)
class Engine(Worker):
    """The engine's models, in a process of their own."""

    process: EngineProcess

    @bentoml.on_deployment
    @staticmethod
    def check_what_it_needs() -> None:
        """Runs once, before any worker starts."""
        try:
            for model in config.engine_models.values():
                settings = config.engine_of(model)
                path = locate(settings.model)
                if settings.backend == "genkan":
                    check_window(settings, path)
                    check_memory(settings)
                    check_kernels(settings.kernels)
        except (ConfigError, ModelFileError) as error:
            sys.exit(f"genkan: {error}")

    def __init__(self) -> None:
        end_with_parent()
        logging.configure(config.telemetry)
        self.process = EngineProcess(config)

    def __is_ready__(self) -> bool:
        return self.process.ready


@bentoml.service(name="genkan_embedder", service_class=BatchingService, workers=1)
class Embedder(Worker):
    """The embedding model, in a process of its own."""

    process: EmbedderProcess

    @bentoml.on_deployment
    @staticmethod
    def check_what_it_needs() -> None:
        """Runs once, before any worker starts."""
        try:
            model_path(embedder_config)
        except ModelFileError as error:
            sys.exit(f"genkan: {error}")

    def __init__(self) -> None:
        end_with_parent()
        logging.configure(config.telemetry)
        self.process = EmbedderProcess(embedder_config, EmbedderMetrics())

    def __is_ready__(self) -> bool:
        return self.process.ready

    @bentoml.api(
        route=EMBED_PATH,
        batchable=True,
        max_batch_size=max(2, embedder_config.max_batch_size),  # BentoML's least
        max_latency_ms=BATCH_LATENCY_MS,
    )
    def embed(self, texts: list[str]) -> Annotated[list[dict[str, Any]], _JSON]:
        """What became of each text: see EmbedderProcess. BentoML gives it the texts of many requests at once."""
        return self.process.compute(texts)


@bentoml.service(name="genkan_servers", service_class=FrontedService, workers=1)
class ModelServers(Worker):
    """The process whose children are the model servers that the configuration has genkan start: vLLM's, SGLang's."""

    process: ModelServersProcess

    @bentoml.on_deployment
    @staticmethod
    def check_what_it_needs() -> None:
        """Runs once, before any worker starts."""
        try:
            check_servers(loaded, os.environ)
        except ConfigError as error:
            sys.exit(f"genkan: {error}")

    def __init__(self) -> None:
        end_with_parent()
        logging.configure(config.telemetry)
        self.process = ModelServersProcess(loaded, page_of_server(os.environ))

    def __is_ready__(self) -> bool:
        return self.process.ready


#: The gateway watches its engine and its embedder itself: see genkan/upstream/siblings.py.
_NO_PROBES = {"enabled": False}


#: What a host gives the whole Bento by default; nothing on our paths reads it. BentoML's timeout is for its own paths,
#: and its concurrency is how many requests an instance is meant to have before BentoCloud starts another.
_RESOURCES = {"cpu": "4", "memory": "8Gi"}
_TRAFFIC = {"timeout": 300, "concurrency": 50}


@bentoml.service(
    name="genkan",
    service_class=FrontedService,
    workers=config.server.workers,
    resources=_RESOURCES,
    traffic=_TRAFFIC,
    runner_probe=_NO_PROBES,
)
class Gateway(Worker):
    """The OpenAI-compatible face."""

    if config.engine_upstream is not None:
        engine = bentoml.depends(Engine)
    if is_local(config.embedder):
        embedder = bentoml.depends(Embedder)
    if any(upstream.serve is not None for upstream in config.openai_upstreams):
        servers = bentoml.depends(ModelServers)

    @bentoml.on_deployment
    @staticmethod
    def start_redis() -> None:
        """Runs once, before any worker starts; workers inherit where it is. It ends with the server.

        What workers would find wrong with the configuration is found here: a worker that ends is started again.
        """
        name_parent()
        try:
            check_settings(config, os.environ)
            check_variables(config, os.environ)
            if config.redis.url == "embedded" and config.redis.url_env is None:
                os.environ[URL_VARIABLE] = EmbeddedRedis(Path(config.redis.data_dir)).start()
            redis_url(config, os.environ)
            load_secret(os.environ, config)
            lead(config, os.environ)
        except (ConfigError, OSError) as error:
            sys.exit(f"genkan: {error}")

    def __init__(self) -> None:
        end_with_parent()
        http_protocol.install()
        logging.configure(config.telemetry)
        self._page = page = page_of_server(os.environ)
        self.process = self._gateway = GatewayProcess(
            config,
            socket_path(Engine) if config.engine_upstream is not None else None,
            embedder_socket=socket_path(Embedder) if is_local(config.embedder) else None,
            drain=page,
            servers_socket=socket_path(ModelServers) if only_served(config) else None,
        )
        if self.process.shedding is not None:
            early_refusal.install(self.process.shedding)
        collect_less()

    @bentoml.on_startup
    async def watch(self) -> None:
        worker = bentoml.server_context.worker_index or 1
        self._watch = DrainWatch(self._page, HttpServer.of_this_process(), worker, tell=draining_gauge())
        await self._watch.start()

    @bentoml.on_shutdown
    async def unwatch(self) -> None:
        await self._watch.aclose()

    async def __is_ready__(self) -> bool:
        return self.process.ready

    async def __metrics__(self, ours: str) -> str:
        """What BentoML is to show at /metrics, which begins with what it has of ``ours``."""
        return ours + await self._gateway.server_metrics()

    @bentoml.api(route="/call")
    async def complete(
        self,
        messages: list[dict[str, Any]],
        model: str = "default",
        stream: bool = False,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: list[str] | None = None,
        genkan: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One chat request; declared for the schema and for BentoML's clients, answered by `genkan/api/native.py`."""
        raise AssertionError("the front answers /call")
