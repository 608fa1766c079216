"""Names that clients use → the chain that answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from genkan.config import Config, DeploymentConfig, ModelConfig, RouteConfig
from genkan.errors import InvalidRequest, ModelNotFound
from genkan.gateway.chain import Chain
from genkan.gateway.chains import Chains, Experiment
from genkan.gateway.deployment import Deployment
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.estimate import Estimator

_DAYS_TO_1970 = 719_163
_RELEASED = date(2025, 1, 1)  # as of any model of which the configuration does not say


@dataclass(frozen=True, slots=True)
class Listed:
    """A name that a client may put in ``model``."""

    name: str
    created: int  # seconds since 1970
    owned_by: str


class Router:
    """Resolves model names and route aliases. A model's own name is a route to its own deployments."""

    def __init__(
        self,
        config: Config,
        deploy: Callable[[ModelConfig, DeploymentConfig], Deployment],
        embedder: EmbeddingModel | None = None,
        experiment: Callable[[RouteConfig], Experiment] | None = None,
        estimator_of: Callable[[str], Estimator] = lambda _: Estimator(),
    ) -> None:
        """``deploy`` makes the deployment of a model at one of its places; it is called once for each.

        ``embedder`` is listed as the others are, and generates nothing. ``experiment`` makes the experiment of a route
        that has a canary; without it there are none. ``estimator_of`` has the estimator of a route's tokens.
        """
        models = {model.name: model for model in config.models}
        tiers = {name: [deploy(model, place) for place in model.places] for name, model in models.items()}
        self.deployments = [deployment for tier in tiers.values() for deployment in tier]
        routes = [RouteConfig(alias=name, chain=[name]) for name in models] + config.routes
        chains = Chains(models, tiers, experiment, estimator_of)
        self.affinities = chains.affinities
        self._chains = {route.alias: chains.of(route) for route in routes}
        self._listed = {route.alias: _listed(route, models) for route in routes}
        self.embedder = embedder
        if embedder is not None:
            self._listed[embedder.name] = Listed(embedder.name, _unix(_RELEASED), "genkan")

    def resolve(self, name: str) -> Chain:
        """The chain behind ``name``. Raises ModelNotFound, and InvalidRequest for the name of the embedding model."""
        try:
            return self._chains[name]
        except KeyError:
            if self.embedder is not None and name == self.embedder.name:
                message = f"The model '{name}' computes embeddings, at /v1/embeddings: it generates no text."
                raise InvalidRequest(message, param="model") from None
            raise ModelNotFound(name) from None

    def names(self) -> list[Listed]:
        """Models, then aliases, as configured; then the embedding model, if there is one."""
        return list(self._listed.values())

    def listed(self, name: str) -> Listed:
        """One of ``names``. Raises ModelNotFound."""
        try:
            return self._listed[name]
        except KeyError:
            raise ModelNotFound(name) from None


def _listed(route: RouteConfig, models: Mapping[str, ModelConfig]) -> Listed:
    first = models[route.chain[0]]
    return Listed(route.alias, _unix(first.released), first.owned_by)


def _unix(day: date) -> int:
    return (day.toordinal() - _DAYS_TO_1970) * 86_400
