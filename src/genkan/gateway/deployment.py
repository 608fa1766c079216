"""A model on an upstream, and everything that decides whether it is asked."""

import math
from dataclasses import dataclass, field

from genkan.gateway.breaker import Attempt, Breaker
from genkan.gateway.first_tokens import FirstTokens
from genkan.gateway.meter import Meter
from genkan.gateway.prices import Price
from genkan.gateway.standing import Cooling, UpstreamStanding
from genkan.upstream.base import Upstream


@dataclass(slots=True)
class Deployment:
    """One place where a model is served. ``name``, ``model@upstream``, is what it is called in logs and metrics."""

    model: str  # as clients know it
    name_there: str
    weight: int
    context_tokens: int | None
    upstream: Upstream
    breaker: Breaker
    standing: UpstreamStanding
    cooling: Cooling = field(default_factory=Cooling)
    price: Price | None = None
    max_output_tokens: int = 4096  # of a request that does not say, where that must be known
    meter: Meter | None = None  # where the upstream limits us
    in_flight: int = 0  # attempts of this worker that have not ended
    is_one_process: bool = False  # so that a second attempt there would only wait behind the first
    resume_group: str = ""  # of models that may go on with each other's answers
    no_prefill_until_s: float = -math.inf  # whatever its upstream's configuration says: it was tried
    first_tokens: FirstTokens = field(default_factory=FirstTokens)  # of requests that may be hedged
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.model}@{self.upstream.name}"

    def begin(self, now_s: float) -> Attempt | None:
        """An attempt, of which the caller tells the end; None while the deployment is to be left alone."""
        if self.cooling.left_s(now_s) or not self.standing.admits(now_s):
            return None
        return self.breaker.begin(now_s)

    def begin_as_last(self, now_s: float) -> Attempt | None:
        """An attempt although breaker or health probes advise against it, because there is nobody else.

        While the breaker is open, it is one at a time or, when that takes long, one a second.
        """
        if self.cooling.left_s(now_s) or self.standing.parked_by(now_s) is not None:
            return None
        return self.breaker.begin(now_s, forced=True)

    def is_well(self, now_s: float) -> bool:
        """Whether ``begin`` would give an attempt as soon as it is not cooling."""
        return self.standing.admits(now_s) and self.breaker.admits(now_s)
