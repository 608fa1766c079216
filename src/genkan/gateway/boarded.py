"""What a request gets that flies with others: an answer of its own, and who gave it."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from genkan.gateway.recording import Reader
from genkan.upstream.base import Answer


class Began(Protocol):
    """What asking gave: an answer that has begun, and the names of who gives it."""

    @property
    def answer(self) -> Answer: ...

    @property
    def deployment(self) -> str:
        """As configured, such as ``model@upstream``."""

    @property
    def model(self) -> str: ...


B_co = TypeVar("B_co", bound=Began, covariant=True)


@dataclass(frozen=True, slots=True)
class Boarded(Generic[B_co]):
    """An answer for one request. Whoever holds it closes ``answer``, always, as any other.

    ``began`` is what this request's own ``ask`` gave; its answer is read and closed by way of ``answer``, which may be
    the same. It is None where another's did, which pays for it: then ``answer.usage`` is at its end what that one took.
    """

    answer: Answer
    deployment: str
    model: str
    began: B_co | None
    reader: Reader | None = None  # of another's stream

    @property
    def is_leader(self) -> bool:
        """Whether this request's own ``ask`` gave the answer."""
        return self.began is not None

    @property
    def state(self) -> str:
        """How another's answer ended for this request, once ``answer`` is closed: ok, client_gone, or an error."""
        return "ok" if self.reader is None else self.reader.state
