"""A route: the deployments that may answer, in which order, by which rules."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from genkan.config import RouteConfig
from genkan.gateway.affinity import Affinity
from genkan.gateway.arm import Arm
from genkan.gateway.deployment import Deployment
from genkan.gateway.hedging import Hedging
from genkan.gateway.retry import RetryBudget
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest


class Split(Protocol):
    """Gives each request one arm of an experiment."""

    def chain_for(self, request: GenerationRequest, caller: Caller) -> "Chain":
        """The chain of its arm; what else the experiment wants of the request is begun."""


class Truncation(Protocol):
    """Fits chats into a window."""

    async def fitted(self, request: GenerationRequest) -> tuple[GenerationRequest, tuple[bytes, bytes] | None]:
        """``request``, or as much of it as fits, and then the header that says what was cut.

        Raises ContextTooLong for what cannot be cut so that it fits.
        """


class Chain:
    """Deployments in tiers, one a model. Within a tier weights decide who is asked first, or how the prompt begins."""

    def __init__(
        self,
        config: RouteConfig,
        tiers: Sequence[Sequence[Deployment]],
        uniform: Callable[[], float] = random.random,
        *,
        arm: Arm | None = None,
        identity: str | None = None,
        affinities: Mapping[str, Affinity] | None = None,
    ) -> None:
        """``uniform`` draws from [0, 1).

        ``arm`` is told how requests went, if the chain is one side of an experiment. Stored answers are shared by
        requests of the same ``identity`` only; it is the route's name, if none is given. ``affinities``, by the names
        of models, order their tiers.
        """
        self.name = config.alias
        self.arm = arm
        self.split: Split | None = None  # which chooses between this and the other side of the experiment
        self.truncation: Truncation | None = None  # where too long chats are cut
        self.identity = config.alias if identity is None else identity
        self.config = config
        self.keep_bytes = config.resume.max_bytes if config.resume.enabled else 0  # of what a stream has said
        self.budget = RetryBudget(config.retry.budget_ratio, config.retry.budget_min)
        self.hedging = None if config.hedge is None else Hedging(config.hedge)
        self._tiers = tiers
        self._uniform = uniform
        self.deployments = [deployment for tier in tiers for deployment in tier]
        self.max_output_tokens = max(deployment.max_output_tokens for deployment in self.deployments)
        self._fixed = [tier[0] for tier in tiers] if all(len(tier) == 1 for tier in tiers) else None
        by_tier = [affinities.get(tier[0].model) if affinities and len(tier) > 1 else None for tier in tiers]
        self._affinities = by_tier if any(by_tier) else None

    def order(
        self, request: GenerationRequest | None = None, tenant: str = "", now_s: float | None = None
    ) -> list[Deployment]:
        """All its deployments, as one request should try them. Not to be changed.

        The first of a tier is drawn by weight, the second by weight among the others, and so on; those of weight 0
        come last. Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006. Where a model has
        an affinity, it orders the tier for a ``request`` of ``tenant``: see `Affinity.order`, also for ``now_s``.
        """
        if self._affinities is None or request is None:
            return self._fixed or [deployment for tier in self._tiers for deployment in sorted(tier, key=self._rank)]
        order: list[Deployment] = []
        for tier, affinity in zip(self._tiers, self._affinities, strict=True):
            order += sorted(tier, key=self._rank) if affinity is None else affinity.order(request, tenant, now_s)
        return order

    def _rank(self, deployment: Deployment) -> float:
        return -(self._uniform() ** (1 / deployment.weight)) if deployment.weight else 1.0
