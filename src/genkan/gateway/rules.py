"""What each error of an upstream means for the chain: the fault catalogue as a table.

| the upstream | then | its breaker | and |
|---|---|---|---|
| cannot be reached, or not in time | go on | failure | |
| has no room in our own queue for it | go on | nothing | |
| took too long, or says so (408, 504) | go on | failure | is not asked again by this request |
| gave something that is no answer | go on | failure | |
| said that it failed (other 5xx) | go on | failure | its `Retry-After` is honoured |
| has had enough (429) | go on | nothing | is left alone until it says |
| accepts our key no more (401), or our money is spent | go on | nothing | is parked |
| does not let our key do that (403) | go on | nothing | |
| has no such model | go on | failure | is not asked again by this request |
| finds the prompt too long | go on to larger windows, if the route does | nothing | else the client gets the error |
| filtered the content | go on, if the route does | nothing | else the client gets the error |
| says something else than an answer that it was to go on with | go on | nothing | see `resume.py` |
| finds fault with the request (4xx) | stop | nothing | the client gets the error |

"Go on" is to the next deployment. The same one is asked again only when there is no other, ``again`` allows it, and
budget, time and breaker do.
"""

from dataclasses import dataclass
from typing import Final, Literal

from genkan.errors import (
    ConnectFailed,
    ReaderTooSlow,
    TimedOut,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamFull,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.gateway.diverged import AnswerDiverged
from genkan.upstream.refusals import CONTENT_FILTER, CONTEXT_TOO_LONG

Reason = Literal["error", "context_too_long", "content_filter", "request"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means. ``reason`` "request" is the client's own fault, which others would find as well."""

    reason: Reason
    failure: bool = False  # counts in the breaker
    again: bool = False  # the same deployment may do better in a moment
    cools: bool = False
    parks: bool = False


#: States of an attempt that say nothing against its deployment, whoever compares it with another. A refusal is none of
#: them: what clients do wrong they do to both alike.
NOTHING_AGAINST: Final = frozenset({"ok", "client_gone", "hedged", AnswerDiverged.code})

_FAILED: Final = Verdict("error", failure=True, again=True)
_LEFT: Final = Verdict("error", failure=True)
_NOBODYS: Final = Verdict("error")
_VERDICTS: Final[dict[type[UpstreamError], Verdict]] = {
    UpstreamFull: _NOBODYS,
    UpstreamThrottled: Verdict("error", again=True, cools=True),
    UpstreamQuota: Verdict("error", parks=True),
    UpstreamUnauthorized: Verdict("error", parks=True),
    UpstreamForbidden: _NOBODYS,
    AnswerDiverged: _NOBODYS,
    UpstreamMisconfigured: _LEFT,
}
_BY_CODE: Final = {
    CONTEXT_TOO_LONG: Verdict("context_too_long"),
    CONTENT_FILTER: Verdict("content_filter"),
    "server_is_overloaded": _NOBODYS,
    ReaderTooSlow.code: Verdict("request"),
}


def verdict(error: UpstreamError) -> Verdict:
    """What ``error`` means for the chain and for the deployment that raised it."""
    if isinstance(error, UpstreamRefused):
        # The engine's own errors come this way as well, with the status they have there.
        by_code = _BY_CODE.get(error.code or "")
        return by_code or (_LEFT if error.status >= 500 else Verdict("request"))
    if isinstance(error, TimedOut):
        return _FAILED if error.phase == "connect" else _LEFT
    if isinstance(error, UpstreamFailed):
        return _LEFT if error.status == 504 else _FAILED
    if isinstance(error, ConnectFailed | UpstreamBroken):
        return _FAILED
    return _VERDICTS[type(error)]
