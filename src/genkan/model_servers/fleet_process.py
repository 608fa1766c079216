"""The process whose children are the model servers."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.clock import Clock, SystemClock
from genkan.config import Config, OpenAiUpstreamConfig
from genkan.model_servers.command import command
from genkan.model_servers.environment import environments, server_key
from genkan.model_servers.keeper import Keeper
from genkan.model_servers.replicas import Server, servers
from genkan.model_servers.supervision import Stage
from genkan.server.drain import DrainPage
from genkan.telemetry.server_metrics import ServerMetrics

_LOOK_EVERY_S = 0.15  # longer than workers take to tell of a request


def check_servers(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for ports that clash, and for GPUs and keys that are not there."""
    environments(config, servers(config), environ)


def only_served(config: Config) -> bool:
    """Whether nothing but model servers of ours can answer: until one is well, neither can the gateway."""
    return all(isinstance(one, OpenAiUpstreamConfig) and one.serve is not None for one in config.upstreams)


class ModelServersProcess:
    """Starts, watches and ends them. It answers nothing but BentoML's questions whether it is ready."""

    def __init__(
        self,
        config: Config,
        page: DrainPage,
        environ: Mapping[str, str] = os.environ,
        clock: Clock | None = None,
        *,
        registry: CollectorRegistry = REGISTRY,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``config`` as it was loaded, and the ``page`` on which the gateway's workers say what they still have to do.

        Raises what ``check_servers`` raises.
        """
        self._page, self._grace_s, self._sleep = page, config.server.drain.grace_s, sleep
        self._servers = servers(config)
        self._environs = environments(config, self._servers, environ)
        self._keys = {server.name: server_key(server, environ) for server in self._servers}
        self._clock = clock or SystemClock()
        self._metrics = ServerMetrics([server.name for server in self._servers], registry)
        self.keepers: list[Keeper] = []  # of the servers, once it has begun
        self._folder: Path | None = None
        self.asgi = Api({}, _admit)

    async def start(self) -> None:
        """Begin to start them; returns at once."""
        self.keepers = [self._keeper(server, place) for place, server in enumerate(self._servers)]
        for keeper in self.keepers:
            keeper.start()

    async def aclose(self) -> None:
        """End them all, at the same time, once the gateway's streams have ended; returns when they are gone."""
        await self._wait_for_gateways()
        await asyncio.gather(*(keeper.aclose() for keeper in self.keepers))
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def ready(self) -> bool:
        """Whether any of them is well."""
        return any(keeper.stage is Stage.WELL for keeper in self.keepers)

    def flush_metrics(self) -> None:
        """They are written as they change."""

    async def _wait_for_gateways(self) -> None:
        """They were told to end when we were, and have as much grace for what they are answering from our servers."""
        give_up_s = self._clock.monotonic() + self._grace_s
        idle_looks = 0
        while idle_looks < 2 and self._clock.monotonic() < give_up_s:
            idle_looks = 0 if any(report.requests for report in self._page.reports()) else idle_looks + 1
            await self._sleep(_LOOK_EVERY_S)

    def _keeper(self, server: Server, place: int) -> Keeper:
        key = self._keys[server.name]
        line = command(server.kind, server.serve, server.names, server.port)
        if key is not None and server.kind == "sglang":
            line += ["--config", str(self._key_file(place, key))]
        environ = self._environs[server.name]
        return Keeper(server, line, environ, self._clock, self._metrics.staged, secret=key)

    def _key_file(self, place: int, key: str) -> Path:
        """SGLang takes its key from a command line, which every user can read, or from a file, which only we can."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="genkan-servers-"))
        path = self._folder / f"{place}.yaml"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"api-key: {json.dumps(key)}\n")
        return path


def _admit(exchange: Exchange) -> None:
    """Nothing is here to be let in to."""
