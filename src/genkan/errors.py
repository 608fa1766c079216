"""Everything genkan raises on purpose.

GenkanError
├─ ConfigError(path)                 a setting is wrong; at start only
├─ ModelFileError                    a model file cannot be served; at start only
├─ StoreError                        Redis did not do what it was asked; mapped by who asked
│  ├─ StoreLost                      it cannot be reached, or the connection broke
│  ├─ StoreTimeout                   it took too long; whether it did it is not known
│  └─ StoreRefused(code)             it answered with an error
└─ RequestError                      one request failed; knows its HTTP answer
   ├─ InvalidRequest 400(param)      the request is wrong
   │  ├─ UnsupportedOption 400       right elsewhere, not on the model that was asked
   │  └─ ContextTooLong 400          (limit_tokens, given_tokens)
   ├─ Unauthenticated 401
   ├─ Forbidden 403                  who is asking is known, and may not
   ├─ RateLimited 429                a limit of the client's own; passes
   ├─ BudgetSpent 429                a budget of the client's own
   ├─ AccountsUnavailable 503        limits or budgets cannot be checked, and must be
   ├─ UnknownPath 404 · ModelNotFound 404 · WrongMethod 405(allowed)
   ├─ BodyTimeout 408 · BodyTooLarge 413(limit_bytes) · WrongMediaType 415
   ├─ UpstreamError(upstream)        the request was fine, its upstream was not
   │  ├─ ConnectFailed 503           nothing was sent
   │  ├─ UpstreamFull 503            nothing was sent: too many requests wait for it already
   │  ├─ TimedOut 504(phase)         connect, first_token, between_tokens or total
   │  ├─ UpstreamBroken 502          it answered, and the answer is not one
   │  │  └─ StreamInterrupted 502    its stream ended before the answer did
   │  ├─ UpstreamFailed 502          it said that it failed; 503 or 504 if that is what it meant
   │  ├─ UpstreamThrottled 429       it has had enough requests from us for now
   │  ├─ UpstreamQuota 503           what we may spend there is spent
   │  ├─ UpstreamUnauthorized 502    it does not accept our key
   │  ├─ UpstreamForbidden 502       it does not let our key do that
   │  ├─ UpstreamMisconfigured 502   it has no such model or path
   │  └─ UpstreamRefused             it finds fault with the request; passed on as it said it
   ├─ NoUpstream 503                 every deployment that could answer is being left alone
   ├─ EngineOverloaded 503 · EngineUnavailable 503 · EngineFailed 500
   ├─ TooManyClients 503(limit)
   ├─ ReaderTooSlow 408(limit_tokens)
   ├─ ServerStopping 503             the server ends before the answer does
   └─ InternalError 500              a bug of ours

`wire/error_body.py` turns a RequestError into OpenAI's error body; nothing else does. A batcher's two RequestErrors are
in `batching/errors.py`.
"""

from typing import Literal

Phase = Literal["connect", "first_token", "between_tokens", "total"]


class GenkanError(Exception):
    """Base of the tree; never raised itself."""


class ConfigError(GenkanError):
    """A setting is wrong. ``path`` is its place in the YAML file, such as ``upstreams[0].kind``."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


class ModelFileError(GenkanError):
    """A model file is missing, damaged, or of a kind that the engine cannot run."""


class StoreError(GenkanError):
    """Redis did not do what it was asked."""


class StoreLost(StoreError):
    """It cannot be reached, or the connection broke before it answered: ``was_sent`` says that it may have done it."""

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class StoreTimeout(StoreError):
    """It did not answer in time. Whether it did what it was asked is not known."""


class StoreRefused(StoreError):
    """It answered with an error; ``code`` is its first word, such as ``NOSCRIPT`` or ``OOM``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]


class RequestError(GenkanError):
    """One request failed. The class says how HTTP and OpenAI's error body name it."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retry_after_s: float | None = None
    #: What OpenAI's clients are told in ``x-should-retry``; None leaves it to them.
    should_retry: bool | None = None
    #: How many attempts at upstreams the request took; None where it took none.
    attempts: int | None = None
    #: Headers that go with it besides those that follow from the above.
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def outcome(self) -> str:
        """What the ledger, metrics and the log call it: always a word of ours, whatever clients are shown."""
        return self.code or self.type


class InvalidRequest(RequestError):
    """The request itself is wrong; ``param`` is the path of the field that is."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class UnsupportedOption(InvalidRequest):
    """A valid option that the model asked for cannot honour, and does not ignore."""

    code = "unsupported_parameter"

    def __init__(self, param: str, why: str) -> None:
        super().__init__(f"'{param}' is not supported by this model: {why}", param=param)


class ContextTooLong(InvalidRequest):
    """Prompt and answer together do not fit the model's context window.

    A prompt far beyond the window is not counted to its end, so ``prompt_tokens`` beyond the limit is a lower bound.
    """

    code = "context_length_exceeded"

    def __init__(self, *, limit_tokens: int, prompt_tokens: int, max_tokens: int, param: str) -> None:
        given, at_least = prompt_tokens + max_tokens, "at least " if prompt_tokens > limit_tokens else ""
        super().__init__(
            f"This model's maximum context length is {limit_tokens} tokens. However, you requested {at_least}{given} "
            f"tokens ({at_least}{prompt_tokens} in the prompt, {max_tokens} for the completion). "
            "Please shorten the prompt or the completion.",
            param=param,
        )
        self.limit_tokens = limit_tokens
        self.given_tokens = given


class Unauthenticated(RequestError):
    """Who is asking is not known, and must be."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """Who is asking is known, and may not do that."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"


class RateLimited(RequestError):
    """A limit of the client's own is reached. ``type`` says of what, as OpenAI's does."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, unit: Literal["requests", "tokens"], retry_after_s: float) -> None:
        super().__init__(message)
        self.type = unit
        self.retry_after_s = retry_after_s


class BudgetSpent(RequestError):
    """What is left of a budget does not cover the most that the request may cost."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    should_retry = False


class AccountsUnavailable(RequestError):
    """Limits or budgets cannot be checked at the moment, and the configuration says that they must be."""

    status = 503
    type = "service_unavailable_error"
    code = "accounts_unavailable"
    retry_after_s = 2.0


class UnknownPath(RequestError):
    """No such path."""

    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class ModelNotFound(RequestError):
    """No model and no route of that name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model '{_shortened(model)}' does not exist or you do not have access to it.", param="model"
        )
        self.model = model


class WrongMethod(RequestError):
    """The path exists, but not for this method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        super().__init__(f"{_shortened(method)} is not allowed on {path}; allowed: {', '.join(allowed)}.")
        self.allowed = allowed


class BodyTimeout(RequestError):
    """The client did not send its body in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class BodyTooLarge(RequestError):
    """The body is larger than the server reads."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"

    def __init__(self, *, limit_bytes: int, given_bytes: int | None) -> None:
        given = f"{given_bytes} bytes" if given_bytes is not None else "more"
        super().__init__(f"The request body must be at most {limit_bytes} bytes; given: {given}.")
        self.limit_bytes = limit_bytes
        self.given_bytes = given_bytes


class WrongMediaType(RequestError):
    """The body is not declared as plain UTF-8 JSON."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class UpstreamError(RequestError):
    """An upstream failed a request that was fine."""

    def __init__(self, message: str, *, upstream: str) -> None:
        super().__init__(message)
        self.upstream = upstream


class ConnectFailed(UpstreamError):
    """The upstream could not be reached; it has seen nothing of the request."""

    status = 503
    type = "service_unavailable_error"
    code = "upstream_unreachable"
    retry_after_s = 5.0


class TimedOut(UpstreamError):
    """The upstream took longer than the limit of one phase."""

    status = 504
    code = "upstream_timeout"

    def __init__(self, *, upstream: str, phase: Phase, limit_s: float) -> None:
        super().__init__(f"The model did not answer in time: {phase} took more than {limit_s:g} s.", upstream=upstream)
        self.phase = phase
        self.limit_s = limit_s


class UpstreamFull(UpstreamError):
    """The upstream has no place for the request: as many as may wait do, or none came free in time (no ``queue``)."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"
    retry_after_s = 1.0

    def __init__(self, *, upstream: str, limit: int, queue: int | None) -> None:
        waiting = "no place came free" if queue is None else f"{queue} wait, which is the limit"
        super().__init__(f"The model is busy: {limit} requests are in flight and {waiting}.", upstream=upstream)


class UpstreamBroken(UpstreamError):
    """The upstream answered with something that is not an answer."""

    status = 502
    code = "upstream_invalid_response"


class StreamInterrupted(UpstreamBroken):
    """The stream ended before the answer did."""

    code = "upstream_stream_interrupted"


class UpstreamFailed(UpstreamError):
    """The upstream said that it failed. ``status_there`` is how; clients see what it means for them."""

    status = 502
    code = "upstream_error"

    def __init__(self, *, upstream: str, status_there: int, retry_after_s: float | None = None) -> None:
        super().__init__(f"The model's server failed with status {status_there}.", upstream=upstream)
        self.status_there = status_there
        self.retry_after_s = retry_after_s
        if status_there in (408, 504):
            self.status, self.code = 504, "upstream_timeout"
        elif status_there in (502, 503, 529):
            self.status, self.type = 503, "service_unavailable_error"
            self.code = "server_is_overloaded" if status_there == 529 else "upstream_unavailable"


class UpstreamThrottled(UpstreamError):
    """The upstream takes no more requests from us for now; ``retry_after_s`` is its own word, if it gave one."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"

    def __init__(self, *, upstream: str, retry_after_s: float | None) -> None:
        super().__init__("The model's server limits how many requests it takes; try again later.", upstream=upstream)
        self.retry_after_s = retry_after_s


class UpstreamQuota(UpstreamError):
    """What we may spend at the upstream is spent: ours to mend, so the client is not told of a quota of its own."""

    status = 503
    type = "service_unavailable_error"
    code = "upstream_quota"


class UpstreamUnauthorized(UpstreamError):
    """The upstream does not accept our key: ours to mend, so the client is not told that its own is wrong."""

    status = 502
    code = "upstream_auth_error"


class UpstreamForbidden(UpstreamError):
    """The upstream does not let our key do that: with this model, from this country, with this prompt."""

    status = 502
    code = "upstream_auth_error"


class UpstreamMisconfigured(UpstreamError):
    """The upstream has no such model or path, or sends us elsewhere."""

    status = 502
    code = "upstream_misconfigured"


#: Codes of refusals that are ours: they are given to refusals that mean it, or the engine, which is ours, says them.
_OUR_CODES = frozenset(
    {
        "content_filter",
        "context_length_exceeded",
        "engine_error",
        "engine_unavailable",
        "reader_too_slow",
        "server_is_overloaded",
        "server_shutting_down",
    }
)


class UpstreamRefused(UpstreamError):
    """The upstream finds fault with the request, with the status and the names that it has there."""

    def __init__(
        self,
        message: str,
        *,
        upstream: str,
        status: int,
        kind: str,
        code: str | None,
        param: str | None,
        retry_after_s: float | None,
    ) -> None:
        super().__init__(message, upstream=upstream)
        self.status, self.type, self.code, self.param = status, kind, code, param
        self.retry_after_s = retry_after_s

    @property
    def outcome(self) -> str:
        """``refused``, or one of the few codes that mean something to us: the others are the upstream's to choose."""
        if self.code in _OUR_CODES:
            return self.code
        return "refused" if self.status < 500 else UpstreamFailed.code


class NoUpstream(RequestError):
    """Every deployment that could answer has failed lately and is being left alone."""

    status = 503
    type = "service_unavailable_error"
    code = "no_healthy_upstream"

    def __init__(self, model: str, *, retry_after_s: float) -> None:
        super().__init__(f"Nothing that serves '{_shortened(model)}' is well at the moment.")
        self.retry_after_s = retry_after_s


class EngineOverloaded(RequestError):
    """The engine's queue is full."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"
    retry_after_s = 5.0


class EngineUnavailable(RequestError):
    """The engine is still loading, has failed to load, or is stopping."""

    status = 503
    type = "service_unavailable_error"
    code = "engine_unavailable"
    retry_after_s = 5.0


class EngineFailed(RequestError):
    """The engine failed on this request; others are not affected."""

    code = "engine_error"


class TooManyClients(RequestError):
    """As many streams run as may at once."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"
    retry_after_s = 5.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"At most {limit} clients are served at once, and so many are.")
        self.limit = limit


class ReaderTooSlow(RequestError):
    """The client takes the answer much slower than it is generated."""

    status = 408
    type = "invalid_request_error"
    code = "reader_too_slow"

    def __init__(self, limit_tokens: int) -> None:
        super().__init__(f"The answer was cancelled: {limit_tokens} tokens of it waited to be read.")
        self.limit_tokens = limit_tokens


class ServerStopping(RequestError):
    """The server ends and has no more time for this request."""

    status = 503
    type = "service_unavailable_error"
    code = "server_shutting_down"
    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__("The server is shutting down.")


class InternalError(RequestError):
    """A bug of ours; what exactly goes to the log, never to the client."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The server had an error while processing your request.")


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
