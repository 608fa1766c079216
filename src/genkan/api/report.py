"""What is told of a request that is over: to metrics, to the log, to its trace."""

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from genkan.api.exchange import Exchange
from genkan.errors import ModelNotFound
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.telemetry.metrics import HttpMetrics
from genkan.telemetry.redaction import redacted
from genkan.telemetry.tracing import Tracing

CLIENT_CLOSED_REQUEST: Final = 499
_GONE: Final = "client_gone"
_SELDOM: Final = frozenset({"error", _GONE, "truncated"})
_NAMES: Final = frozenset({"route", "model"})  # that clients ask for
_PATH_CHARS: Final = 200


class Observer(Protocol):
    """Is told of every request once it has ended."""

    def finished(self, path: str, status: int, seconds: float) -> None: ...


class RequestMetrics(NamedTuple):
    """What counts requests besides the observers."""

    http: HttpMetrics
    generations: GenAiMetrics


class RequestReport:
    """Tells of requests."""

    def __init__(
        self,
        observers: Sequence[Observer],
        access_log: AccessLog | None,
        metrics: RequestMetrics | None,
        tracing: Tracing | None,
    ) -> None:
        """What is None is not told."""
        self._observers = observers
        self._access_log = None if access_log is None or not access_log.is_on else access_log
        self._metrics = metrics
        self._tracing = tracing

    def ended(self, exchange: Exchange, label: str) -> None:
        """The request is over, however that came. ``label`` is its place in the path table, or "other"."""
        status = exchange.status or CLIENT_CLOSED_REQUEST
        seconds = time.monotonic() - exchange.started_s
        for observer in self._observers:
            observer.finished(label, status, seconds)
        fields, metrics, error = exchange.fields, self._metrics, ""
        if not _SELDOM.isdisjoint(fields):
            error = str(fields.get("error") or (_GONE if _GONE in fields else ""))
            if metrics is not None:
                _tell_seldom(metrics, exchange, label)
            if error == ModelNotFound.code:
                _hide_name(exchange)
        if metrics is not None and (generation := exchange.generation) is not None:
            usage: Any = fields.get("usage")
            metrics.generations.ended(generation, error, seconds, exchange.first_token_s, usage, exchange.complete)
        if exchange.trace is not None and self._tracing is not None:
            fields["trace_id"] = self._tracing.ended(exchange.trace, status, exchange.generation, fields)
        if self._access_log is not None:
            path = exchange.path  # one of ours, or anything
            shown = path if path == label else redacted(path, _PATH_CHARS)
            self._access_log.request(exchange.method[:20], shown, _line(exchange, status, seconds))


def _tell_seldom(metrics: RequestMetrics, exchange: Exchange, label: str) -> None:
    fields = exchange.fields
    if "error" in fields:
        metrics.http.failed(label, str(fields["error"]))
    if _GONE in fields:
        metrics.http.left(label)
    if "truncated" in fields and exchange.generation is not None:
        metrics.generations.truncated(exchange.generation)


def _hide_name(exchange: Exchange) -> None:
    """What no model is called may be a key or a prompt, in the wrong field."""
    for name in _NAMES & exchange.fields.keys():
        exchange.fields[name] = redacted(str(exchange.fields[name]))
    if exchange.generation is not None:
        exchange.generation = (exchange.generation[0], redacted(exchange.generation[1]))


def _line(exchange: Exchange, status: int, seconds: float) -> dict[str, object]:
    line: dict[str, object] = {
        "id": exchange.request_id,
        "status": status,
        "ms": round(10_000 * seconds) / 10,  # to a tenth: to have `round` do that takes twice as long
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
    }
    if (caller := exchange.known_caller) is not None:
        line["tenant"], line["key"] = caller.tenant, caller.key_id
    if exchange.first_token_s is not None:
        line["ttft_ms"] = round(10_000 * exchange.first_token_s) / 10
    line |= exchange.fields
    return line
