"""Which of a model's deployments is asked first: the one whose prefix cache knows how the prompt begins. No I/O.

Theory. Each deployment has a rank for each beginning of a prompt, drawn by hashing its name and the beginning together,
and the first by rank is asked (rendezvous hashing). Nobody keeps a table: workers and replicas of the gateway agree
without a word. When a deployment is lost, the prompts that it was first for go to their second, and no others move;
when it is back, they return. A rank is −ln(h)/weight, h in (0, 1), so deployments are first in proportion to their
weights, and a weight that is raised only draws prompts to that one.

A hash knows nothing of popularity, so load is bounded besides: a deployment is passed over while it has
`load_factor` times its share by weight of the requests in flight, this one counted, and √share more. What is too much
for one goes to the second by rank, always the same, which then knows the beginning too. The root is what chance alone
adds (arrivals are Poisson): a bound without it sends many a request elsewhere where nothing is the matter, the more
the fewer are in flight; with it the factor decides where many are, which is where it matters. Who is being left
alone has no share, and keeps its place in the order for when it is back. Each worker counts the requests it has itself.

Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; Schindelhauer and Schomaker,
"Weighted distributed hash tables", 2005 (the weights); Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with
bounded loads", 2018.
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log, sqrt

from genkan.config import AffinityConfig
from genkan.gateway.deployment import Deployment
from genkan.gateway.prompt_start import By, prompt_start
from genkan.wire.chat import GenerationRequest

_HASH_BYTES = 8
_HASHES = 1 << 8 * _HASH_BYTES


class Affinity:
    """Orders the deployments of one model for each prompt that comes."""

    def __init__(self, config: AffinityConfig, deployments: Sequence[Deployment], by: By = "chat") -> None:
        self._prefix_bytes = config.prefix_bytes
        self._by = by
        self._load_factor = config.load_factor
        self._weighted = [(_seeded(one.name), 1 / one.weight, one.name, one) for one in deployments if one.weight]
        self._last = [one for one in deployments if not one.weight]
        self._ordered = self._spilled = self._left_alone = 0

    @property
    def counts(self) -> tuple[int, int, int]:
        """Requests so far whose first by rank was first, had no room, and was being left alone."""
        return self._ordered - self._spilled - self._left_alone, self._spilled, self._left_alone

    def order(self, request: GenerationRequest, tenant: str, now_s: float | None = None) -> list[Deployment]:
        """All deployments: by rank those that have room, by rank those that have not, then those of weight 0.

        ``now_s`` tells who is being left alone; without it nobody is. Cost: that of `prompt_start`, and 1.2 µs a
        deployment.
        """
        start = prompt_start(request, tenant, self._prefix_bytes, self._by)
        return self._within_bounds(self.ranked(start), now_s) + self._last

    def ranked(self, start: bytes) -> list[Deployment]:
        """The deployments that have a weight, by rank for prompts that begin so; load does not matter."""
        ranks = []
        for seeded, per_weight, name, deployment in self._weighted:
            hashing = seeded.copy()
            hashing.update(start)
            uniform = (int.from_bytes(hashing.digest()) + 0.5) / _HASHES
            ranks.append((-log(uniform) * per_weight, name, deployment))
        ranks.sort()
        return [deployment for _, _, deployment in ranks]

    def _within_bounds(self, ranked: list[Deployment], now_s: float | None) -> list[Deployment]:
        if not ranked:
            return ranked
        self._ordered += 1
        shared = ranked
        if now_s is not None:
            shared = [one for one in ranked if one.is_well(now_s) and not one.cooling.left_s(now_s)]
            if not shared or shared[0] is not ranked[0]:
                self._left_alone += 1
        in_flight, weight = 1, 0
        for one in shared:
            in_flight += one.in_flight
            weight += one.weight
        full = []
        for one in shared:
            share = in_flight * one.weight / weight
            if one.in_flight >= self._load_factor * share + sqrt(share):
                full.append(one)
        if not full:
            return ranked
        if full[0] is ranked[0] and len(full) < len(shared):
            self._spilled += 1
        names = {one.name for one in full}
        return [one for one in ranked if one.name not in names] + full


def _seeded(name: str) -> blake2b:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES)
