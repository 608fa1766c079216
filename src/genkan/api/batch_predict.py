"""``POST /batch_predict``: a list of chat requests in, the list of their answers out, in order.

Each item is a request of its own: admitted, limited and billed under the id ``<the call's>.<its index>``. It has the
status and the body that it would have had alone, so one that fails harms no other, and the call itself is a 200.

Items of all calls go to the pipeline in batches. The engine, and servers like it, batch what runs by themselves; what
batches do here is that those who come together go together, and that a long list does not take all places of an
upstream and fail for want of more.
"""

import logging
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from genkan.api.disconnect import cancelled_on_disconnect
from genkan.api.exchange import Exchange
from genkan.api.generation import token_counts
from genkan.api.native import DEFAULT_MODEL
from genkan.batching.loop_batches import LoopBatches
from genkan.config import ServerConfig
from genkan.errors import InternalError, InvalidRequest, RequestError
from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.upstream.base import Responder
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest
from genkan.wire.error_body import error_body
from genkan.wire.fields import Fields, wrong_type
from genkan.wire.strict_json import parse_value

BATCH_PREDICT_PATH = "/batch_predict"
MAX_REQUESTS = 256  # in one call
_MAX_WAITING = 4 * MAX_REQUESTS
_AT_ONCE = 4  # batches; most items of a batch wait for its longest answer, and others need not
_BUG: Final = InternalError().outcome
_GONE: Final = "client_gone"
_log = logging.getLogger("genkan.api")


class BatchPredictEndpoint:
    """Takes ``{"requests": [...]}``, or the list alone; of each request ``model`` may be left out."""

    def __init__(
        self,
        responder: Responder,
        server: ServerConfig,
        metrics: GenAiMetrics | None = None,
        *,
        batch_size: int = 16,
        wait_s: float = 0.03,
    ) -> None:
        """A batch goes as soon as ``batch_size`` items are there, or after ``wait_s``, or if nobody else is expected.

        Who else is expected is told by what was seen before: see `BatchLine`. ``metrics`` are told of each item.
        """
        self._metrics = metrics
        self._responder = responder
        self._server = server
        self._batches = LoopBatches(
            self._ask, max_batch_size=batch_size, max_wait_s=wait_s, max_queue=_MAX_WAITING, at_once=_AT_ONCE
        )

    async def __call__(self, exchange: Exchange) -> None:
        exchange.send_timeout_s = self._server.send_timeout_s
        body = await exchange.json_body(limit_bytes=self._server.max_body_bytes, timeout_s=self._server.body_timeout_s)
        caller = exchange.caller
        items = [
            _Item(raw, replace(caller, request_id=f"{caller.request_id}.{index}"), exchange)
            for index, raw in enumerate(_requests(parse_value(body)))
        ]
        exchange.fields["requests"] = len(items)
        with cancelled_on_disconnect(exchange):
            outcomes = await self._batches.outcomes(items)
        exchange.fields["failed"] = sum(isinstance(outcome, BaseException) for outcome in outcomes)
        results = [
            {"index": index, "id": item.caller.request_id, **_result(outcome, item)}
            for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True))
        ]
        await exchange.reply(orjson.dumps({"results": results}))

    async def _ask(self, item: "_Item") -> "_Answered":
        request = ChatRequest.from_object(_chat_body(item.raw))
        if request.stream:
            raise InvalidRequest("'stream' must be false here: a batch is answered as a whole.", param="stream")
        usage, error = None, _GONE
        try:
            answer = await self._responder.respond(request, item.caller)
            try:
                assert answer.body is not None  # as no stream was asked for
                usage, error = token_counts(answer.usage), ""
                return _Answered(answer.body, answer.cost_nano_usd)
            finally:
                await answer.aclose()
        except Exception as failure:
            error = failure.outcome if isinstance(failure, RequestError) else _BUG
            raise
        finally:
            if self._metrics is not None:
                seconds = item.exchange.elapsed_s
                self._metrics.ended(("chat", request.model), error, seconds, None, usage, is_whole=not error)


class _Item(NamedTuple):
    raw: Any
    caller: Caller
    exchange: Exchange  # of the call


class _Answered(NamedTuple):
    body: bytes
    cost_nano_usd: int | None


def _requests(given: Any) -> list[Any]:
    requests = given
    if type(given) is dict:
        fields = Fields(given)
        fields.only(frozenset({"requests"}))
        requests = fields.require("requests")
    if type(requests) is not list:
        raise wrong_type("requests", "a list of chat requests", requests)
    if not 1 <= len(requests) <= MAX_REQUESTS:
        raise InvalidRequest(
            f"'requests' must have 1 to {MAX_REQUESTS} entries; given: {len(requests)}.", param="requests"
        )
    return requests


def _chat_body(raw: Any) -> dict[str, Any]:
    if type(raw) is not dict:
        raise InvalidRequest("Each of the requests must be an object.", param="requests")
    return raw if raw.get("model") is not None else {**raw, "model": DEFAULT_MODEL}


def _result(outcome: _Answered | BaseException, item: _Item) -> dict[str, Any]:
    if isinstance(outcome, _Answered):
        cost_usd = None if outcome.cost_nano_usd is None else outcome.cost_nano_usd / 10**9
        return {"status": 200, "body": orjson.Fragment(outcome.body), "cost_usd": cost_usd}
    if not isinstance(outcome, RequestError):
        _log.error("a bug: a request of a batch failed (%s)", item.caller.request_id, exc_info=outcome)
        outcome = InternalError()
    result: dict[str, Any] = {"status": outcome.status, "body": orjson.Fragment(error_body(outcome))}
    return result if outcome.retry_after_s is None else {**result, "retry_after_s": outcome.retry_after_s}
