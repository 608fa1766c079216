"""What an overloaded worker refuses, and who is told of it."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from genkan.gateway.overload import Overload, ServerOverloaded
from genkan.telemetry.access_log import AccessLog

#: Of a request of which nothing but its target was read.
_REFUSED: Final = {"status": ServerOverloaded.status, "ms": 0.0, "error": ServerOverloaded.code}
_log = logging.getLogger("genkan.server.shedding")


class Observer(Protocol):
    """Is told of every request once it has ended."""

    def finished(self, path: str, status: int, seconds: float) -> None: ...


class Shedding:
    """Refuses what costs work, and nothing else: an operator gets through, and so do probes.

    What is refused is counted like all else, and has its line in the log. One more says that it began, and one, at the
    end, how many there were.
    """

    def __init__(
        self,
        overload: Overload,
        paths: Iterable[str],
        observers: Sequence[Observer],
        failed: Callable[[str, str], object] = lambda path, code: None,
        access_log: AccessLog | None = None,
    ) -> None:
        """``paths``: those that may be refused. ``failed`` is told of the error that is the answer, by its code.

        ``access_log`` gets the lines of requests, if anything does.
        """
        self.overload = overload
        self._paths = {path.encode(): path for path in paths}
        self._names = frozenset(self._paths.values())
        self._observers = observers
        self._failed = failed
        self._notes: dict[bytes, Callable[[str], None]] = {}
        if access_log is not None:
            self._notes = {target: access_log.alike("POST", path, _REFUSED) for target, path in self._paths.items()}
        self._began_s = 0.0
        self._refused = 0

    def looked(self, now_s: float, lag_s: float, own_lag_s: float) -> None:
        """See LoopWatch. What others on the same core take is no overload of ours: to refuse would not help."""
        before = self.overload.sheds
        self.overload.looked(now_s, own_lag_s)
        if self.overload.sheds is before:
            return
        if before:
            seconds = now_s - self._began_s
            _log.warning("no longer overloaded, after %.1f s and %d refused requests", seconds, self._refused)
        else:
            self._began_s, self._refused = now_s, 0
            _log.warning("overloaded: the event loop lags by %.0f ms, and new requests are refused", 1000 * lag_s)

    def finished(self, path: str, status: int, seconds: float) -> None:
        """A request that was let in has ended."""
        if path in self._names:
            self.overload.ended()

    def refuses(self, target: bytes) -> bool:
        """Whether to refuse a POST to ``target`` (a path, perhaps with a query); it counts as refused then."""
        path = self._paths.get(target) or self._paths.get(target.partition(b"?")[0])
        if path is None or self.overload.admits():
            return False
        self._refused += 1
        for observer in self._observers:
            observer.finished(path, ServerOverloaded.status, 0.0)
        self._failed(path, ServerOverloaded.code)
        return True

    def refused(self, target: bytes, request_id: str) -> None:
        """Note that a request to ``target`` was. Cost: 1 µs."""
        note = self._notes.get(target) or self._notes.get(target.partition(b"?")[0])
        if note is not None:
            note(request_id)
