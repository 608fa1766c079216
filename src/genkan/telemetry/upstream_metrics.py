"""Connections to upstreams and who waits for one, as metrics, looked at once a second: no request pays for it."""

import math
from collections.abc import Mapping
from typing import Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_EVERY_S: Final = 1.0


class Connected(Protocol):
    """What an upstream shows of its connections."""

    @property
    def busy(self) -> int:
        """Connections on which a request is under way."""

    @property
    def idle(self) -> int:
        """Those kept for the next one."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""


class UpstreamMetrics:
    """Shows the connections of each upstream of the configuration, by its name."""

    def __init__(
        self, tally: Tally, upstreams: Mapping[str, Connected], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._tally = tally
        busy, idle, waiting = (
            entry.on(registry) for entry in (catalog.UPSTREAM_BUSY, catalog.UPSTREAM_IDLE, catalog.UPSTREAM_WAITING)
        )
        self._shown = [
            (upstream, busy.labels(name), idle.labels(name), waiting.labels(name))
            for name, upstream in upstreams.items()
        ]
        self._waits = catalog.UPSTREAM_QUEUE_SECONDS.on(registry)
        self._of = Bound().of
        self._looked_s = -math.inf

    def looked(self, now_s: float, lag_s: float, own_lag_s: float) -> None:
        """Called by a LoopWatch, many times a second."""
        if now_s - self._looked_s < _EVERY_S:
            return
        self._looked_s = now_s
        for upstream, busy, idle, waiting in self._shown:
            busy.set(upstream.busy)
            idle.set(upstream.idle)
            waiting.set(upstream.waiting)

    def waited(self, upstream: str, seconds: float) -> None:
        """A request had to wait so long for its place there, or until it gave up."""
        self._tally.observe(self._of(self._waits, upstream), seconds)
