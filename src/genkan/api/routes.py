"""The path table as an ASGI application: finds the endpoint, answers its errors, has every request reported.

Exact paths and one level of prefixes are all an OpenAI-compatible API has, so a dict does; there are no redirects,
and unknown paths and methods get OpenAI's error body like everything else.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from genkan.api.error_handler import send_error
from genkan.api.exchange import ClientGone, Exchange, Message, Receive, Scope, Send
from genkan.api.report import Observer, RequestMetrics, RequestReport
from genkan.errors import InternalError, RequestError, ServerStopping, UnknownPath, WrongMethod
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.redaction import redacted
from genkan.telemetry.tracing import Tracing

Endpoint = Callable[[Exchange], Awaitable[None]]
#: Path → method → endpoint. A path that ends in "/*" takes everything below it.
PathTable = Mapping[str, Mapping[str, Endpoint]]

#: Paths that BentoML answers, for GET and HEAD; `front.py` sends it those.
BENTOML_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/schema.json"})
_FAREWELL_S = 1.0
_OTHER = "other"
_log = logging.getLogger("genkan.api")


class Api:
    """An ASGI application over a path table."""

    def __init__(
        self,
        table: PathTable,
        admit: Callable[[Exchange], None],
        observers: Sequence[Observer] = (),
        access_log: AccessLog | None = None,
        metrics: RequestMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """``admit`` raises for requests that may not come in; it runs before any endpoint.

        The others are told of every request, as far as they are given.
        """
        self.table = table
        self._exact = {path: dict(methods) for path, methods in table.items() if not path.endswith("/*")}
        self._below = {path[:-1]: dict(methods) for path, methods in table.items() if path.endswith("/*")}
        self._admit = admit
        self._report = RequestReport(observers, access_log, metrics, tracing)
        self._in_flight = defaultdict[str, int](int) if metrics is None else metrics.http.in_flight
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope, send = _as_plain_request(scope, send)
        exchange = Exchange(scope, receive, send)
        label, methods = self._methods(exchange.path)
        self._in_flight[label] += 1
        if self._tracing is not None:
            exchange.trace = self._tracing.begun(exchange.method, label, exchange.headers)
        try:
            await self._answer(exchange, methods)
        except ClientGone:  # also while it was being told of an error
            exchange.fields["client_gone"] = True
        finally:
            self._in_flight[label] -= 1
            self._report.ended(exchange, label)

    async def _answer(self, exchange: Exchange, methods: dict[str, Endpoint] | None) -> None:
        try:
            self._admit(exchange)
            if exchange.trace is not None:
                exchange.caller = replace(exchange.caller, trace=exchange.trace)
            await _endpoint(exchange, methods)(exchange)
        except ClientGone:
            raise
        except RequestError as error:
            await send_error(exchange, error)
        except asyncio.CancelledError:
            # The server's time to drain is over. A stream must not end bare: it would look complete.
            if not exchange.complete:
                await _send_farewell(exchange)
            raise
        except Exception:  # noqa: BLE001 - the last barrier: a bug becomes a 500 in OpenAI's shape
            path = redacted(exchange.path, 200)
            _log.exception("a bug: %s %s failed (%s)", exchange.method[:20], path, exchange.request_id)
            if not exchange.complete:
                await send_error(exchange, InternalError())

    def _methods(self, path: str) -> tuple[str, dict[str, Endpoint] | None]:
        if (found := self._exact.get(path)) is not None:
            return path, found
        for prefix, methods in self._below.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return f"{prefix}*", methods
        return _OTHER, None


async def _send_farewell(exchange: Exchange) -> None:
    with contextlib.suppress(TimeoutError, ClientGone):
        async with asyncio.timeout(_FAREWELL_S):  # a client that does not read must not hold up the end
            await send_error(exchange, ServerStopping())


def _as_plain_request(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """A WebSocket handshake as a GET of a path that nobody has, so that its refusal is an error like any other."""

    async def send_refusal(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return {**scope, "method": "GET", "path": f"websocket:{scope['path']}"}, send_refusal


def _endpoint(exchange: Exchange, methods: dict[str, Endpoint] | None) -> Endpoint:
    if exchange.path in BENTOML_PATHS:
        raise WrongMethod(exchange.method, exchange.path, ["GET", "HEAD"])
    if methods is None:
        raise UnknownPath(f"Unknown request URL: {exchange.method} {exchange.path[:200]}.")
    method = "GET" if exchange.method == "HEAD" else exchange.method
    if method not in methods:
        allowed = [*methods, "HEAD"] if "GET" in methods else list(methods)
        raise WrongMethod(exchange.method, exchange.path[:200], sorted(allowed))
    return methods[method]
