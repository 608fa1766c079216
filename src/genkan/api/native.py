"""``POST /call``: BentoML's native face, one chat request in, one flat object out.

`service.py` declares it as a BentoML API, so that its schema and BentoML's clients know it; this route answers it,
so that its errors are the same as everywhere.
"""

from typing import Any

import orjson

from genkan.api.exchange import Exchange
from genkan.api.generation import answer
from genkan.config import ServerConfig
from genkan.errors import UpstreamBroken
from genkan.upstream.base import Answer, Responder
from genkan.wire.chat import ChatRequest
from genkan.wire.strict_json import parse_object

DEFAULT_MODEL = "default"


class NativeEndpoint:
    """Takes the options of a chat completion; ``model`` may be left out."""

    def __init__(self, responder: Responder, server: ServerConfig) -> None:
        self._responder = responder
        self._server = server

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.json_body(limit_bytes=self._server.max_body_bytes, timeout_s=self._server.body_timeout_s)
        request = ChatRequest.from_object(_chat_body(parse_object(body)))
        await answer(exchange, self._responder, request, _send_flat if not request.stream else _send_collected)


async def _send_flat(exchange: Exchange, answer: Answer) -> None:
    await _reply(exchange, answer, _whole(answer))


async def _send_collected(exchange: Exchange, answer: Answer) -> None:
    await _reply(exchange, answer, await _collected(answer))


async def _reply(exchange: Exchange, answer: Answer, reply: dict[str, Any]) -> None:
    reply |= {
        "usage": answer.usage,
        "latency_ms": round(1000 * exchange.elapsed_s, 3),
        "cost_usd": None,  # no prices yet
    }
    await exchange.reply(orjson.dumps(reply), headers=answer.headers)


def _chat_body(raw: dict[str, Any]) -> dict[str, Any]:
    # BentoML's client sends every declared parameter, null where the caller gave none.
    given = {name: value for name, value in raw.items() if value is not None}
    return {"model": DEFAULT_MODEL, **given}


def _whole(answer: Answer) -> dict[str, Any]:
    assert answer.body is not None
    completion = _parsed(answer.body)
    choice = completion["choices"][0]
    return {
        "id": completion.get("id"),
        "model": completion.get("model"),
        "content": (choice.get("message") or {}).get("content"),
        "finish_reason": choice.get("finish_reason"),
    }


async def _collected(answer: Answer) -> dict[str, Any]:
    assert answer.batches is not None
    reply: dict[str, Any] = {"id": None, "model": None, "content": "", "finish_reason": None, "streamed": True}
    pieces: list[str] = []
    async for payloads in answer.batches:
        for data in payloads:
            chunk = _parsed(data)
            reply["id"], reply["model"] = chunk.get("id"), chunk.get("model")
            for choice in chunk.get("choices") or ():
                pieces.append((choice.get("delta") or {}).get("content") or "")
                reply["finish_reason"] = choice.get("finish_reason") or reply["finish_reason"]
    reply["content"] = "".join(pieces)
    return reply


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise UpstreamBroken("The model's answer is not JSON.", upstream="") from error
