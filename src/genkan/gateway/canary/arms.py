"""Arms that somebody takes notes of, beside the experiment that compares them."""

from typing import Protocol

from genkan.gateway.arm import Arm, Sample


class ArmObserver(Protocol):
    """Takes notes, quickly: it is called while requests wait."""

    def measured(self, route: str, arm: str, sample: Sample) -> None:
        """A request has ended on the arm."""

    def shadow_dropped(self, route: str) -> None:
        """A copy was wanted, and too many were under way."""


class WatchedArm:
    """An Arm whose samples are noted, and, where it is given who ``compares`` them, count in the experiment."""

    __slots__ = ("_compares", "_observer", "_route", "name")

    def __init__(self, route: str, name: str, observer: ArmObserver, compares: Arm | None = None) -> None:
        self.name = name
        self._route = route
        self._observer = observer
        self._compares = compares

    def ended(self, sample: Sample) -> None:
        """See Arm."""
        self._observer.measured(self._route, self.name, sample)
        if self._compares is not None:
            self._compares.ended(sample)
