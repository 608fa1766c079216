"""How much waits to be embedded, and whether one more request can be answered before its sender stops waiting.

A sender that gives up leaves its text in the queue. With more requests than can be answered, all would be computed too
late, for nobody, for ever; so a request that would come too late is refused at once. Pure: no I/O, no clock.
"""

from typing import Protocol

_WEIGHT = 0.2  # of the newest measurement
_TELLING_BYTES = 512  # what a smaller batch costs is mostly the same for any text, and says nothing of a queue's length


class EmbedderObserver(Protocol):
    """Is told what the embedder does, in the thread where it happens."""

    def queued(self, requests: int) -> None:
        """So many wait or are computed now."""

    def refused(self) -> None:
        """A request was not let in."""

    def computed(self, texts: int, seconds: float) -> None:
        """A batch of so many texts took so long."""


class NobodyWatches:
    """An EmbedderObserver that ignores it all."""

    def queued(self, requests: int) -> None:
        pass

    def refused(self) -> None:
        pass

    def computed(self, texts: int, seconds: float) -> None:
        pass


class Backlog:
    """Requests that wait or are computed, by the bytes of their text. Used by one thread, but for ``computed``."""

    def __init__(self, limit: int, observer: EmbedderObserver | None = None) -> None:
        """At most ``limit`` requests. ``observer`` is told how many there are, and of those refused."""
        self._limit = limit
        self._observer = observer or NobodyWatches()
        self._requests = 0
        self._waiting_bytes = 0
        self._byte_s = 0.0  # what a byte costs in a batch; 0 until that is known

    @property
    def requests(self) -> int:
        """Those that have entered and not left."""
        return self._requests

    @property
    def wait_s(self) -> float:
        """How long a request would wait that came now, as far as is known."""
        return self._waiting_bytes * self._byte_s

    def enter(self, n_bytes: int, patience_s: float) -> bool:
        """Whether a request of so many bytes, which waits so long, may wait; if so it must ``leave``."""
        if self._requests >= self._limit or (self._requests and self.wait_s > patience_s):
            self._observer.refused()
            return False
        self._requests += 1
        self._observer.queued(self._requests)
        self._waiting_bytes += n_bytes
        return True

    def leave(self, n_bytes: int) -> None:
        """A request that entered is answered or given up."""
        self._requests -= 1
        self._observer.queued(self._requests)
        self._waiting_bytes -= n_bytes

    def computed(self, n_bytes: int, seconds: float) -> None:
        """A batch of texts with so many bytes took so long."""
        if n_bytes >= _TELLING_BYTES:
            newest = seconds / n_bytes
            self._byte_s = newest if not self._byte_s else self._byte_s + _WEIGHT * (newest - self._byte_s)
