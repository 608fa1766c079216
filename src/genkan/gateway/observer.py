"""Who is told of what happens between the gateway and its upstreams."""

from typing import Protocol

from genkan.gateway.breaker import State


class GatewayObserver(Protocol):
    """Takes notes, quickly: it is called while requests wait. ``deployment`` is a ``model@upstream``."""

    def attempted(self, deployment: str, outcome: str, seconds: float) -> None:
        """An attempt ended: ``ok``, ``client_gone``, or the code of the error."""

    def first_token(self, deployment: str, seconds: float) -> None:
        """The first piece of a streamed answer came, so long after the attempt began."""

    def retried(self, deployment: str) -> None:
        """The same deployment is asked again by the same request."""

    def fell_back(self, route: str, reason: str) -> None:
        """A request went on to another deployment because of that: an error's code, or as in a Walk's reasons."""

    def resumed(self, route: str, way: str, outcome: str) -> None:
        """An attempt to go on with a stream has ended: ``ok``, ``diverged``, ``client_gone`` or the error's code."""

    def hedged(self, route: str, outcome: str) -> None:
        """A second attempt at a first token: it ``won``, it ``lost``, or there was no budget for it: ``denied``."""

    def breaker_changed(self, deployment: str, before: State, after: State) -> None:
        """A circuit opened, may be probed, or closed."""
