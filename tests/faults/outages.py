"""Times at which the upstream, or one of its models, is down. A pure state machine: the clock comes from outside."""

import math
from collections.abc import Callable
from typing import Literal

#: How a request is refused: the connection is reset, or the answer is 503.
Mode = Literal["reset", "503"]
EVERYTHING = ""


class Outages:
    """At most one outage of everything, and one for each model."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, tuple[float, Mode]] = {}

    def begin(self, model: str = EVERYTHING, *, seconds: float = math.inf, mode: Mode = "reset") -> None:
        """Down from now on, for so long or until told."""
        self._until[model] = (self._clock() + seconds, mode)

    def end(self, model: str = EVERYTHING) -> None:
        """Up again at once. The end of everything's outage ends each model's, too."""
        if model == EVERYTHING:
            self._until.clear()
        self._until.pop(model, None)

    def mode(self, model: str) -> Mode | None:
        """How a request for ``model`` is refused now, or None when it is served."""
        for name in (EVERYTHING, model):
            until, mode = self._until.get(name, (-math.inf, "reset"))
            if self._clock() < until:
                return mode
        return None
