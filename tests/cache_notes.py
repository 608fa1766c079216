"""A CacheObserver that remembers."""

from genkan.cache.observer import Unobserved


class CacheNotes(Unobserved):
    """What the exact tier tells, in order."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.stored_bytes: list[int] = []
        self.refusals: list[str] = []

    def stored(self, route: str, n_bytes: int) -> None:
        self.stored_bytes.append(n_bytes)

    def not_stored(self, route: str, reason: str) -> None:
        self.refusals.append(reason)

    def failed(self, what: str) -> None:
        self.failures.append(what)
