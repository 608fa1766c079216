"""Which errors of one request are told to others that asked the same, and how."""

from genkan.errors import (
    BodyTimeout,
    Forbidden,
    InternalError,
    InvalidRequest,
    RateLimited,
    RequestError,
    Unauthenticated,
    UpstreamRefused,
)

#: Of refusals, those that are about who asks, or when.
_PASSING = frozenset({Unauthenticated.status, Forbidden.status, BodyTimeout.status, RateLimited.status})


def is_lasting(error: BaseException) -> bool:
    """Whether the same request would fail the same way again, whoever makes it."""
    if isinstance(error, InvalidRequest):
        return True
    return isinstance(error, UpstreamRefused) and error.status < 500 and error.status not in _PASSING


def twin(error: BaseException) -> RequestError:
    """The same for somebody else: without the headers, which tell a client of its own limits, and the attempts.

    A bug of ours, or that somebody was cancelled, is nobody else's: they get an InternalError.
    """
    if not isinstance(error, RequestError):
        return InternalError()
    other = type(error).__new__(type(error))
    other.args = error.args
    other.__dict__.update(error.__dict__)
    other.__dict__.pop("headers", None)
    other.__dict__.pop("attempts", None)
    return other
