"""Why an upstream or a deployment is passed over for a while, besides its breaker. Pure; the clock is passed in.

Three reasons, each with its own end:

* **parked**: it refused a request of ours because of our key, or because what we may spend there is spent. No request
  mends that, so nobody asks again for a while.
* **cooling**: the deployment has had enough requests of ours and said when to come back, or did not say.
* **unhealthy**: health probes fail, or are refused. Unlike the other two this is only a guess of what a request would
  meet: some servers let a key generate and not list models, others list them to anyone.
"""

from genkan.errors import UpstreamError

PARKED_S = 300.0
COOLING_S = 1.0  # where the upstream did not say
LONGEST_COOLING_S = 300.0


class UpstreamStanding:
    """What is known of an upstream as a whole."""

    __slots__ = ("_failed_probes", "_parked_by", "_parked_until_s", "_unhealthy_after")

    def __init__(self, unhealthy_after: int = 1) -> None:
        self._parked_until_s = 0.0
        self._parked_by: UpstreamError | None = None
        self._unhealthy_after = unhealthy_after
        self._failed_probes = 0  # in a row

    def park(self, error: UpstreamError, until_s: float) -> None:
        """Ask nothing of it before ``until_s``; who would have asked gets ``error``."""
        self._parked_by, self._parked_until_s = _anew(error), until_s

    def probed(self, *, well: bool, at_once: bool = False) -> None:
        """What a health probe found. ``at_once``: it need not be found again to count."""
        if well:
            self._failed_probes = 0
        else:
            self._failed_probes = max(self._failed_probes + 1, self._unhealthy_after if at_once else 0)

    def parked_by(self, now_s: float) -> UpstreamError | None:
        """A new error of the kind that parked it; None when it is not parked."""
        if self._parked_by is None or now_s >= self._parked_until_s:
            return None
        return _anew(self._parked_by)

    def admits(self, now_s: float) -> bool:
        """Whether it is healthy and not parked."""
        is_parked = self._parked_by is not None and now_s < self._parked_until_s
        return not is_parked and self._failed_probes < self._unhealthy_after

    @property
    def healthy(self) -> bool:
        """Whether fewer than ``unhealthy_after`` probes in a row failed."""
        return self._failed_probes < self._unhealthy_after


class Cooling:
    """When a deployment that had enough may be asked again."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self._until_s = 0.0

    def until(self, now_s: float, retry_after_s: float | None) -> None:
        """It had enough at ``now_s`` and said to come back in ``retry_after_s``, or nothing."""
        pause_s = COOLING_S if retry_after_s is None else min(retry_after_s, LONGEST_COOLING_S)
        self._until_s = max(self._until_s, now_s + pause_s)

    def left_s(self, now_s: float) -> float:
        """Seconds until it may be asked; 0 when it may now."""
        return self._until_s - now_s if now_s < self._until_s else 0.0


def _anew(error: UpstreamError) -> UpstreamError:
    """One like it that was never raised: a raised error collects tracebacks, which keep whole requests alive."""
    return type(error)(error.message, upstream=error.upstream)
