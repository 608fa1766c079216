"""Names that clients use → the deployment that answers."""

from dataclasses import dataclass

from genkan.config import Config, ModelConfig
from genkan.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on an upstream."""

    model: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A name that a client may put in ``model``."""

    name: str
    created: int  # seconds since 1970
    owned_by: str
    upstream: str


class Router:
    """Resolves model names and route aliases."""

    def __init__(self, config: Config) -> None:
        models = {model.name: model for model in config.models}
        named = {**models, **{route.alias: models[route.chain[0]] for route in config.routes}}
        self._deployments = {name: Deployment(model.name, model.upstream) for name, model in named.items()}
        self._listed = {name: _listed(name, model) for name, model in named.items()}

    def resolve(self, name: str) -> Deployment:
        """The deployment behind ``name``. Raises ModelNotFound."""
        try:
            return self._deployments[name]
        except KeyError:
            raise ModelNotFound(name) from None

    def names(self) -> list[Listed]:
        """Models, then aliases, as configured."""
        return list(self._listed.values())

    def listed(self, name: str) -> Listed:
        """One of ``names``. Raises ModelNotFound."""
        try:
            return self._listed[name]
        except KeyError:
            raise ModelNotFound(name) from None


def _listed(name: str, model: ModelConfig) -> Listed:
    days_since_1970 = model.released.toordinal() - 719_163
    return Listed(name, days_since_1970 * 86_400, model.owned_by, model.upstream)
