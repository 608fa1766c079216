"""Upstreams that are asked to go on with the canonical answer, or whose answer somebody else has to go on with.

They are no part of the catalogue: each is the half of something, and what is to come of it the tests of that say. Who
goes on does so from any beginning, at the edge of a token or within, and counts the beginning as a part of its prompt.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

import orjson
from faults.canonical import TEXT, TOKENS, USAGE, error_body
from faults.exchange import EVENTS, Exchange
from faults.table import Behaviour, Face, Fault

_TOKEN_CHARS: Final = len(TOKENS[0])
_DIVERGES_AT: Final = 20
_GARBAGE_AT: Final = 40
_BY_ITSELF_S: Final = 0.05
_CUT_AT_BYTE: Final = "cut-at-byte-"

_TABLE: dict[str, Fault] = {}


def going_on(name: str) -> Fault | None:
    """The model of that name; ``cut-at-byte-`` goes before a number."""
    return _TABLE.get(_CUT_AT_BYTE if name.startswith(_CUT_AT_BYTE) else name)


def _model(name: str, *, only: Face | None = None) -> Callable[[Behaviour], Behaviour]:
    def enter(behave: Behaviour) -> Behaviour:
        _TABLE[name] = Fault(name, " ".join((behave.__doc__ or "").split()), behave, only)
        return behave

    return enter


# --- Who goes on ---


@_model("ok-message")
async def ok_message(exchange: Exchange) -> None:
    """Goes on with an assistant's message that comes last, without being told to."""
    await _go_on(exchange, _begun(exchange))


@_model("ok-vllm")
async def ok_vllm(exchange: Exchange) -> None:
    """Goes on as vLLM does: with ``continue_final_message``, which does not go with ``add_generation_prompt``."""
    body = exchange.request.body
    if not body.get("continue_final_message"):
        await exchange.healthy()
    elif body.get("add_generation_prompt", True):
        await _refuse(exchange, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    else:
        await _go_on(exchange, _begun(exchange))


@_model("ok-prefix")
async def ok_prefix(exchange: Exchange) -> None:
    """Goes on as DeepSeek does: with a last message that has ``prefix``; refuses one of the assistant's without."""
    if _begun(exchange) and not exchange.request.body["messages"][-1].get("prefix"):
        await _refuse(exchange, "The last message of the assistant must have prefix set to true.")
    else:
        await _go_on(exchange, _begun(exchange))


@_model("ok-prefix-echoed")
async def ok_prefix_echoed(exchange: Exchange) -> None:
    """The same as Mistral does it: what it goes on with is repeated first."""
    if _begun(exchange) and not exchange.request.body["messages"][-1].get("prefix"):
        await _refuse(exchange, "Expected last role User or Tool for serving but got assistant.")
    else:
        await _go_on(exchange, _begun(exchange), echoes=True)


@_model("ok-prompt")
async def ok_prompt(exchange: Exchange) -> None:
    """Goes on with the longest beginning that the prompt of a text completion ends with."""
    prompt = str(exchange.request.body.get("prompt", ""))
    begun = next(end for end in range(len(TEXT), -1, -1) if prompt.endswith(TEXT[:end]))
    await _go_on(exchange, TEXT[:begun])


def _begun(exchange: Exchange) -> str:
    last = (exchange.request.body.get("messages") or [{}])[-1]
    return str(last.get("content", "")) if last.get("role") == "assistant" else ""


async def _go_on(exchange: Exchange, begun: str, *, echoes: bool = False) -> None:
    if not TEXT.startswith(begun):
        await _refuse(exchange, "The beginning is not one of the canonical answer.")
        return
    rest = TEXT.removeprefix(begun)
    tokens, before = math.ceil(len(rest) / _TOKEN_CHARS), len(begun) // _TOKEN_CHARS
    prompt = int(exchange.request.number("x_prompt_tokens", USAGE["prompt_tokens"])) + before
    usage = USAGE | {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    edge = len(rest) % _TOKEN_CHARS
    pieces = [
        begun if echoes else "",
        rest[:edge],
        *(rest[at : at + _TOKEN_CHARS] for at in range(edge, len(rest), _TOKEN_CHARS)),
    ]
    await _answer(exchange, [{"content": piece} for piece in pieces if piece], usage)


# --- Who says something else ---


@_model("diverges")
async def diverges(exchange: Exchange) -> None:
    """Healthy, but for what it says from the 21st token on."""
    pieces = [*TOKENS[:_DIVERGES_AT], *(f"alt{nth} " for nth in range(_DIVERGES_AT, len(TOKENS)))]
    await _answer(exchange, [{"content": piece} for piece in pieces])


# --- Calls and thoughts ---

TOOL_ARGUMENTS: Final = '{"city": "Huế", "days": [1, 2, 3]}'


@_model("tools-cut", only="stream")
async def tools_cut(exchange: Exchange) -> None:
    """Calls a tool, and resets the connection within its arguments."""
    await _break_off(exchange, _call("call_cut", ["", '{"city"', ': "Huế", "d']))


@_model("tools-ok", only="stream")
async def tools_ok(exchange: Exchange) -> None:
    """Calls the same tool whole, with another id and in other pieces."""
    await _answer(exchange, _call("call_ok", ['{"ci', 'ty": "Hu', 'ế", "days": [1, 2', ", 3]}"]), end="tool_calls")


@_model("tools-diverge", only="stream")
async def tools_diverge(exchange: Exchange) -> None:
    """Calls the same tool with other arguments."""
    await _answer(exchange, _call("call_other", ["", '{"city": "Hội', ' An", "days": []}']), end="tool_calls")


@_model("reasoning-cut", only="stream")
async def reasoning_cut(exchange: Exchange) -> None:
    """Thinks first, and resets the connection within its thoughts."""
    await _break_off(exchange, [{"content": None, "reasoning_content": piece} for piece in ("hm, ", "y")])


@_model("reasoning-ok")
async def reasoning_ok(exchange: Exchange) -> None:
    """Thinks the same, in other pieces and in the field that newer servers have, and then is healthy."""
    thoughts = [{"reasoning": piece} for piece in ("h", "m, yes")]
    await _answer(exchange, [*thoughts, *({"content": token} for token in TOKENS)])


def _call(identity: str, pieces: list[str]) -> list[dict[str, Any]]:
    first, *more = pieces
    function = {"name": "weather", "arguments": first}
    calls: list[dict[str, Any]] = [{"index": 0, "id": identity, "type": "function", "function": function}]
    calls += [{"index": 0, "function": {"arguments": piece}} for piece in more]
    return [{"tool_calls": [call]} for call in calls]


# --- Who breaks off ---


@_model(_CUT_AT_BYTE, only="stream")
async def cut_at_byte_of_the_body(exchange: Exchange) -> None:
    """Healthy, but resets the connection after as many bytes of the events as its name says, or ``x_bytes``."""
    body, _ = exchange.healthy_body()
    told = exchange.request.fault.removeprefix(_CUT_AT_BYTE)
    end = int(told) if told else int(exchange.request.number("x_bytes", len(body)))
    await exchange.send(exchange.head(200, {"content-type": EVENTS, "content-length": str(len(body) + 1)}))
    await exchange.send(body[:end])
    await exchange.reset()


@_model("garbage-after-40")
async def garbage_after_40(exchange: Exchange) -> None:
    """Broken JSON for the 41st token, which arrives by itself, and then the rest of a healthy answer."""
    await exchange.up_to_token(_GARBAGE_AT)
    await asyncio.sleep(_BY_ITSELF_S)
    await exchange.payloads([b'{"id": "chatcmpl-fault", "choices": [{"index": 0, "delta": {'])
    await exchange.events([*exchange.canonical.tokens(_GARBAGE_AT), exchange.canonical.finish()])
    await exchange.done()


async def _break_off(exchange: Exchange, deltas: list[dict[str, Any]]) -> None:
    answer = exchange.canonical
    await exchange.begin_chunks()
    await exchange.events([*answer.opening(), *map(answer.chunk, deltas)])
    await exchange.reset()


async def _answer(
    exchange: Exchange, deltas: list[dict[str, Any]], usage: dict[str, Any] = USAGE, *, end: str = "stop"
) -> None:
    """A good answer that says ``deltas``, in the way that was asked for."""
    answer = exchange.canonical
    if exchange.stream:
        chunks = [*answer.opening(), *map(answer.chunk, deltas), answer.finish(end), *answer.usage_chunk(usage)]
        await exchange.streamed(chunks)
        return
    text = "".join(delta.get("content") or "" for delta in deltas)
    await exchange.answer(orjson.dumps(answer.whole(finish_reason=end, text=text) | {"usage": usage}))


async def _refuse(exchange: Exchange, why: str) -> None:
    await exchange.answer(error_body(why, "invalid_request_error", param="messages"), 400)
