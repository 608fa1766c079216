"""A route: the deployments that may answer, in which order, by which rules."""

import random
from collections.abc import Callable, Sequence

from genkan.config import RouteConfig
from genkan.gateway.deployment import Deployment
from genkan.gateway.retry import RetryBudget


class Chain:
    """Deployments in tiers, one tier a model. Within a tier weights decide who is asked first."""

    def __init__(
        self,
        config: RouteConfig,
        tiers: Sequence[Sequence[Deployment]],
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """``uniform`` draws from [0, 1)."""
        self.name = config.alias
        self.config = config
        self.budget = RetryBudget(config.retry.budget_ratio, config.retry.budget_min)
        self._tiers = tiers
        self._uniform = uniform
        self.deployments = [deployment for tier in tiers for deployment in tier]
        self.max_output_tokens = max(deployment.max_output_tokens for deployment in self.deployments)
        self._fixed = [tier[0] for tier in tiers] if all(len(tier) == 1 for tier in tiers) else None

    def order(self) -> list[Deployment]:
        """All its deployments, as one request should try them. Not to be changed.

        The first of a tier is drawn by weight, the second by weight among the others, and so on; those of weight 0
        come last. Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
        """
        return self._fixed or [deployment for tier in self._tiers for deployment in sorted(tier, key=self._rank)]

    def _rank(self, deployment: Deployment) -> float:
        return -(self._uniform() ** (1 / deployment.weight)) if deployment.weight else 1.0
