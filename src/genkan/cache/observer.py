"""Who is told of what becomes of stored answers."""

from typing import Protocol


class CacheObserver(Protocol):
    """Takes notes, quickly: it is called while requests wait.

    No text, tenant or key is among what it is told; ``route`` is the name of a route or a model.
    """

    def looked(self, route: str, result: str) -> None:
        """A request is through with the cache, once for each: a tier (see Hit), ``miss``, ``bypass`` or ``shadow``."""

    def stored(self, route: str, n_bytes: int) -> None:
        """An answer was stored, and takes so much as it is kept."""

    def not_stored(self, route: str, reason: str) -> None:
        """An answer was not stored, as it must not be, or is too large."""

    def failed(self, what: str) -> None:
        """Something counted as a miss that was none: ``look``, ``put``, ``timeout``, ``paused`` or ``unreadable``."""

    def coalesced(self, route: str) -> None:
        """A request was answered with what another had asked for already."""

    def embedded(self, seconds: float) -> None:
        """A question was embedded, and took so long."""

    def judged(self, verdict: str) -> None:
        """A pair was judged: ``same``, ``different``, ``failed``, or why not."""


class Unobserved:
    """Tells nobody."""

    def looked(self, route: str, result: str) -> None:
        pass

    def stored(self, route: str, n_bytes: int) -> None:
        pass

    def not_stored(self, route: str, reason: str) -> None:
        pass

    def failed(self, what: str) -> None:
        pass

    def coalesced(self, route: str) -> None:
        pass

    def embedded(self, seconds: float) -> None:
        pass

    def judged(self, verdict: str) -> None:
        pass
