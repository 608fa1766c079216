"""Every upstream of the configuration, constructed, and what is known of it while the gateway runs."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial

from genkan.books import Books
from genkan.clock import Clock
from genkan.config import Config, DeploymentConfig, EngineUpstreamConfig, ModelConfig, OpenAiUpstreamConfig
from genkan.errors import UpstreamUnauthorized
from genkan.gateway.breaker import Breaker, State
from genkan.gateway.deployment import Deployment
from genkan.gateway.meter import Meter
from genkan.gateway.observer import GatewayObserver
from genkan.gateway.policies import lines
from genkan.gateway.standing import UpstreamStanding
from genkan.store.accounts import Plan
from genkan.upstream.credentials import Credential, find_key
from genkan.upstream.embedder import EmbedderClient
from genkan.upstream.embeddings import Embeds
from genkan.upstream.http_upstream import HttpUpstream
from genkan.upstream.local import LocalEngine
from genkan.upstream.openai_embeddings import OpenAiEmbeddings
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.upstream.prefix_salt import PrefixSalts, is_salted
from genkan.upstream.prober import HealthProber, ProbeResult

_log = logging.getLogger("genkan.gateway")


class Fleet:
    """The upstreams, their standings, their breakers, and the probes that watch them."""

    def __init__(
        self,
        config: Config,
        engine_socket: str | None,
        environ: Mapping[str, str],
        clock: Clock,
        observer: GatewayObserver,
        books: Books,
    ) -> None:
        """An upstream whose key cannot work, by the look of it, is left out for good; `check` says why."""
        self._config = config
        self._observer = observer
        self._clock = clock
        self._books = books
        self._lease_s = config.limits.lease_s
        self._configs = {upstream.name: upstream for upstream in config.upstreams}
        self.engine: LocalEngine | None = None
        self.plans: dict[str, Plan] = {}  # what upstreams allow us, by deployment
        self._upstreams: dict[str, HttpUpstream] = {}
        self._standings: dict[str, UpstreamStanding] = {}
        probed: list[tuple[OpenAiUpstreamConfig, Credential]] = []
        for upstream in config.upstreams:
            if isinstance(upstream, EngineUpstreamConfig):
                assert engine_socket is not None
                self._upstreams[upstream.name] = self.engine = LocalEngine(upstream, engine_socket)
                self._standings[upstream.name] = UpstreamStanding()
                continue
            key = find_key(upstream, environ)
            salts = PrefixSalts(books.secret) if is_salted(upstream) else None
            self._upstreams[upstream.name] = OpenAiUpstream(upstream, key.value, clock, salts)
            self._standings[upstream.name] = standing = UpstreamStanding(upstream.health.unhealthy_after)
            if key.problem is None:
                probed.append((upstream, key))
            else:
                standing.park(_unauthorized(upstream.name), math.inf)
        self._prober = HealthProber(probed, self._probed)

    def deploy(self, model: ModelConfig, place: DeploymentConfig) -> Deployment:
        """The deployment of ``model`` at ``place``."""
        policy = self._configs[place.upstream].breaker
        name = f"{model.name}@{place.upstream}"
        name_there = place.model or model.name
        is_engine = isinstance(self._configs[place.upstream], EngineUpstreamConfig)
        plan = tuple(lines(place.limits, f"d:{name}", f"deployment '{name}'", is_own=False, lease_s=self._lease_s))
        self.plans[name] = plan
        return Deployment(
            model=model.name,
            name_there=name_there,
            weight=place.weight,
            context_tokens=model.context_tokens or (self._config.engine_of(model).max_model_len if is_engine else None),
            upstream=self._upstreams[place.upstream],
            breaker=Breaker(name, policy, self._books.circuits, self._breaker_changed),
            standing=self._standings[place.upstream],
            price=self._books.prices.price(model.name, upstream=place.upstream, name_there=name_there),
            max_output_tokens=model.defaults.max_tokens if is_engine else model.max_output_tokens,
            meter=self._meter(plan, place.limit_wait_s) if plan else None,
            resume_group=model.resume_group,
            is_one_process=is_engine,
        )

    @property
    def connected(self) -> Mapping[str, HttpUpstream]:
        """The upstreams by name, which show their connections."""
        return self._upstreams

    def tell_waits(self, waited: Callable[[str, float], None]) -> None:
        """Have ``waited`` called with an upstream's name and the seconds that a request waited for a place there."""
        for name, upstream in self._upstreams.items():
            upstream.waited = partial(waited, name)

    def embeds(self, socket: str | None) -> Embeds | None:
        """What computes embeddings: a process of ours at ``socket``, or an upstream; None if nothing does."""
        config = self._config
        if config.embedder is None or (socket is None and not config.embedder.model.startswith("upstream:")):
            return None
        if socket is not None:
            return EmbedderClient(socket, config.embedder)
        name, _, model = config.embedder.model.removeprefix("upstream:").partition("/")
        return OpenAiEmbeddings(self._upstreams[name], model, config.embedder)

    def _meter(self, plan: Plan, wait_s: float) -> Meter:
        return Meter(plan, self._books.reservations, wait_s=wait_s, clock=self._clock)

    async def start(self) -> None:
        """Begin to probe, in the event loop that will make the requests."""
        await self._prober.start()

    async def aclose(self) -> None:
        """End the probes and close every connection."""
        await self._prober.aclose()
        for upstream in self._upstreams.values():
            await upstream.aclose()

    def _probed(self, name: str, result: ProbeResult) -> None:
        standing = self._standings[name]
        was_healthy = standing.healthy
        standing.probed(well=result is ProbeResult.HEALTHY, at_once=result is ProbeResult.REFUSED_CREDENTIAL)
        if standing.healthy != was_healthy:
            _log.warning("%s is %s, by its health probes", name, "well again" if standing.healthy else "not well")

    def _breaker_changed(self, deployment: str, before: State, after: State) -> None:
        _log.warning("the breaker of %s is %s, was %s", deployment, after.replace("_", " "), before.replace("_", " "))
        self._observer.breaker_changed(deployment, before, after)


def _unauthorized(upstream: str) -> UpstreamUnauthorized:
    return UpstreamUnauthorized("The gateway has no key that the model's server accepts.", upstream=upstream)
