"""Canaries, constructed: every route's experiment, where workers add up what they measure, and who asks copies."""

import asyncio
from collections.abc import Mapping

from genkan.books import redis_url
from genkan.clock import Clock
from genkan.config import CanaryConfig, Config, RouteConfig
from genkan.errors import UnknownPath
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.arm import Arm
from genkan.gateway.canary.arms import WatchedArm
from genkan.gateway.canary.configured import experiment_of
from genkan.gateway.canary.experiment import Experiment
from genkan.gateway.canary.record import Action
from genkan.gateway.canary.shadow import Shadows, ShadowSplit
from genkan.gateway.canary.split import ArmSplit, drawing
from genkan.gateway.chain import Chain, Split
from genkan.store.address import parse_address
from genkan.store.canaries import CanaryStore, MemoryCanaries
from genkan.store.redis_canaries import RedisCanaries
from genkan.store.resp import RespClient
from genkan.telemetry.canary_metrics import CanaryMetrics
from genkan.upstream.base import Responder

_CALM_S = 2.0  # no request waits for it


class Canaries:
    """All of them, for one worker. ``start`` in the event loop that will use them, ``aclose`` at the end."""

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock, metrics: CanaryMetrics) -> None:
        """Raises ConfigError."""
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._identities = answering_identities(config)
        self._routes: dict[str, RouteCanary] = {}
        self._client: RespClient | None = None
        self._store: CanaryStore = MemoryCanaries()
        url = redis_url(config, environ)
        if url is not None and any(route.canary is not None for route in config.routes):
            redis = config.redis
            address = parse_address(url, redis.sentinels)
            timeout_s = max(redis.timeout_s, _CALM_S)
            self._client = RespClient(address, connect_s=redis.connect_s, timeout_s=timeout_s)
            self._store = RedisCanaries(self._client, prefix=redis.prefix)

    def experiment(self, route: RouteConfig) -> "RouteCanary":
        """The experiment of a route that has a canary; for `Router`, once for each."""
        assert route.canary is not None  # or there is nothing to try
        experiment = experiment_of(route, self._identities, self._store, self._clock, self._metrics)
        made = self._routes[route.alias] = RouteCanary(route.alias, route.canary, experiment, self._metrics)
        return made

    async def start(self, responder: Responder) -> None:
        """Connect, and take over what is known and decided. ``responder`` is asked for shadows' answers."""
        if self._client is not None:
            await self._client.start()
        for route, canary in self._routes.items():
            self._metrics.watched(route)
            canary.shadows.start(responder)
        await asyncio.gather(*(canary.experiment.start() for canary in self._routes.values()))

    async def aclose(self) -> None:
        """End what is asked behind, tell what is left to tell, and disconnect."""
        await asyncio.gather(*(canary.shadows.aclose() for canary in self._routes.values()))
        await asyncio.gather(*(canary.experiment.aclose() for canary in self._routes.values()))
        if self._client is not None:
            await self._client.aclose()

    async def reports(self) -> list[dict[str, object]]:
        """What is known of all of them, as `Experiment.report` has it. Raises nothing."""
        return await asyncio.gather(*(canary.experiment.report() for canary in self._routes.values()))

    async def report(self, route: str) -> dict[str, object]:
        """What is known of one. Raises UnknownPath for a route that has none."""
        return await self._of(route).experiment.report()

    async def override(self, route: str, action: Action, who: str) -> None:
        """Promote it, roll it back, or begin anew, for all workers within some seconds.

        Raises UnknownPath for a route that has none, and StoreError.
        """
        await self._of(route).experiment.override(action, who)

    def _of(self, route: str) -> "RouteCanary":
        if (found := self._routes.get(route)) is None:
            raise UnknownPath(f"There is no canary on a route with the name '{route[:100]}'.")
        return found


class RouteCanary:
    """One route's: what `Router` wants of an experiment."""

    def __init__(self, route: str, config: CanaryConfig, experiment: Experiment, metrics: CanaryMetrics) -> None:
        self.experiment = experiment
        self.shadows = Shadows(route, metrics, most=config.max_shadows)
        self.control: Arm = WatchedArm(route, "control", metrics, experiment.control)
        self.canary: Arm = WatchedArm(route, "canary", metrics, experiment.canary)
        self._unpaired = WatchedArm(route, "control", metrics)
        self._route = route
        self._config = config

    def split(self, control: Chain, canary: Chain) -> Split:
        """Who gives each request one of the two."""
        draw = drawing(self._config.assign, self._route)
        if self._config.mode == "split":
            return ArmSplit(control, canary, self.experiment, draw)
        return ShadowSplit(control, canary, self.experiment, draw, self.shadows, self._unpaired)
