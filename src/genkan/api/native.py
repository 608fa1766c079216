"""``POST /call``: BentoML's native face, one chat request in, one flat object out.

`service.py` declares it as a BentoML API, so that its schema and BentoML's clients know it; this route answers it,
so that its errors are the same as everywhere.
"""

from collections.abc import Container, Iterator
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
MAX_COLLECTED_CHARACTERS = 16 << 20


class NativeEndpoint:
    """Takes the options of a chat completion; ``model`` may be left out."""

    def __init__(self, responder: Responder, server: ServerConfig, logged: Container[str] = ()) -> None:
        """``logged`` as a GenerationEndpoint's."""
        self._responder = responder
        self._logged = logged
        self._server = server

    async def __call__(self, exchange: Exchange) -> None:
        exchange.send_timeout_s = self._server.send_timeout_s
        body = await exchange.json_body(limit_bytes=self._server.max_body_bytes, timeout_s=self._server.body_timeout_s)
        request = ChatRequest.from_object(_chat_body(parse_object(body)))
        send = _send_collected if request.stream else _send_flat
        await answer(exchange, self._responder, request, send, self._logged)


async def _send_flat(exchange: Exchange, answer: Answer) -> None:
    await _reply(exchange, answer, _whole(answer))


async def _send_collected(exchange: Exchange, answer: Answer) -> None:
    await _reply(exchange, answer, await _collected(answer))


async def _reply(exchange: Exchange, answer: Answer, reply: dict[str, Any]) -> None:
    reply |= {
        "usage": answer.usage,
        "latency_ms": round(1000 * exchange.elapsed_s, 3),
        "cost_usd": None if answer.cost_nano_usd is None else answer.cost_nano_usd / 10**9,
    }
    try:
        body = orjson.dumps(reply)
    except TypeError as error:  # what was read is nested deeper than can be written
        raise UpstreamBroken("The model's answer is nested too deeply.", upstream="") from error
    await exchange.reply(body, headers=answer.headers)


def _chat_body(raw: dict[str, Any]) -> dict[str, Any]:
    # BentoML's client sends every declared parameter, null where the caller gave none.
    given = {name: value for name, value in raw.items() if value is not None}
    return {"model": DEFAULT_MODEL, **given}


def _whole(answer: Answer) -> dict[str, Any]:
    assert answer.body is not None
    completion = _parsed(answer.body)
    choice = next(_first_choices(completion), {})
    return {
        "id": completion.get("id"),
        "model": completion.get("model"),
        "content": _content(choice.get("message")),
        "finish_reason": choice.get("finish_reason"),
    }


async def _collected(answer: Answer) -> dict[str, Any]:
    assert answer.batches is not None
    reply: dict[str, Any] = {"id": None, "model": None, "content": "", "finish_reason": None, "streamed": True}
    pieces: list[str] = []
    characters = 0
    async for payloads in answer.batches:
        for chunk in map(_parsed, payloads):
            reply["id"], reply["model"] = chunk.get("id"), chunk.get("model")
            for choice in _first_choices(chunk):
                reply["finish_reason"] = choice.get("finish_reason") or reply["finish_reason"]
                pieces.append(_content(choice.get("delta")) or "")
                characters += len(pieces[-1])
        if characters > MAX_COLLECTED_CHARACTERS:
            limit = f"{MAX_COLLECTED_CHARACTERS} characters"
            raise UpstreamBroken(f"The model's answer is longer than {limit}.", upstream="")
    reply["content"] = "".join(pieces)
    return reply


def _first_choices(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What there is of the first choice: this face has room for one, whatever ``n`` was."""
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index") in (None, 0):
            yield choice


def _content(message: object) -> str | None:
    """The text of a message or of a piece of one, also where it comes in parts; None where it says that it has none."""
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if content is None or isinstance(content, str) else ""


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(data)
    except ValueError as error:
        raise UpstreamBroken("The model's answer is not JSON.", upstream="") from error
    if not isinstance(parsed, dict):
        raise UpstreamBroken("The model's answer is not a JSON object.", upstream="")
    return parsed
