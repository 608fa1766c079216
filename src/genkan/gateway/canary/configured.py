"""Experiments as the configuration has them: whoever knows the same one makes the same."""

import hashlib
from collections.abc import Mapping

from genkan.clock import Clock
from genkan.config import RouteConfig
from genkan.gateway.canary.experiment import CanaryObserver, Experiment, Side
from genkan.store.canaries import CanaryStore


def experiment_of(
    route: RouteConfig,
    identities: Mapping[str, bytes],
    store: CanaryStore,
    clock: Clock,
    observer: CanaryObserver | None = None,
) -> Experiment:
    """That of a route that has a canary. ``identities`` are those of `answering_identities`."""
    assert route.canary is not None  # or there is nothing to try
    control, canary = route.chain[0], route.canary.model
    return Experiment(
        route.alias,
        route.canary,
        store,
        control=Side(control, _digest(identities[control])),
        canary=Side(canary, _digest(identities[canary])),
        clock=clock,
        observer=observer,
    )


def _digest(identity: bytes) -> str:
    return hashlib.blake2b(identity, digest_size=16).hexdigest()
