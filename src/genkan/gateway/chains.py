"""From routes, as configured, to the chains that answer them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from genkan.config import ModelConfig, RouteConfig
from genkan.gateway.affinity import Affinity
from genkan.gateway.answering_identity import canary_identity
from genkan.gateway.arm import Arm
from genkan.gateway.chain import Chain, Split
from genkan.gateway.deployment import Deployment
from genkan.gateway.estimate import Estimator
from genkan.gateway.truncation import Truncation


class Experiment(Protocol):
    """What a route's canary needs of whoever compares it with the control."""

    control: Arm
    canary: Arm

    def split(self, control: Chain, canary: Chain) -> Split:
        """Who gives each request one of the two."""


class Chains:
    """Makes chains. Those of the same model share its deployments, and how it is told which to ask first."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        tiers: Mapping[str, Sequence[Deployment]],
        experiment: Callable[[RouteConfig], Experiment] | None = None,
        estimator_of: Callable[[str], Estimator] = lambda _: Estimator(),
    ) -> None:
        """``tiers`` are the deployments of each model. Without ``experiment`` no route has a canary.

        ``estimator_of`` has the estimator of a route, which learns how many tokens its prompts have.
        """
        self._tiers = tiers
        self._estimator_of = estimator_of
        self.affinities = {  # by the names of models that have one
            name: Affinity(model.affinity, tiers[name], model.affinity.by)
            for name, model in models.items()
            if model.affinity is not None
        }
        self._experiment = experiment

    def of(self, route: RouteConfig) -> Chain:
        """The chain of ``route``; that of its control, if it has a canary, which then has a chain of its own."""
        made = None if route.canary is None or self._experiment is None else self._experiment(route)
        control = self._chain(route, arm=None if made is None else made.control)
        if route.truncate != "off":
            tiers = [self._tiers[name] for name in route.chain]
            control.truncation = Truncation(route, tiers, self._estimator_of(route.alias))
        if route.canary is None or made is None:
            return control
        tried = [route.canary.model, *(name for name in route.chain if name != route.canary.model)]
        own: dict[str, object] = {"chain": tried}
        if route.canary.mode == "shadow":  # copies take nothing of the route's limits, and nobody else is asked
            own = {"alias": route.canary.model, "chain": tried[:1]}
        canary = self._chain(route.model_copy(update=own), arm=made.canary, identity=canary_identity(route.alias))
        control.split = made.split(control, canary)
        return control

    def _chain(self, route: RouteConfig, *, arm: Arm | None = None, identity: str | None = None) -> Chain:
        tiers = [self._tiers[name] for name in route.chain]
        return Chain(route, tiers, arm=arm, identity=identity, affinities=self.affinities)
