"""Bodies that were right, and what becomes of them."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any, Final

_HI: Final = [{"role": "user", "content": "Say hi."}]
_ASK: Final[dict[str, Any]] = {
    "model": "default",
    "messages": _HI,
    "max_tokens": 2,
}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}
_SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
_CHATS: Final[list[dict[str, Any]]] = [
    _ASK,
    {**_ASK, "stream": True, "stream_options": {"include_usage": True}},
    {**_ASK, "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x", "\n"], "n": 1, "user": "u"},
    {**_ASK, "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 1}, "presence_penalty": 0.1},
    {**_ASK, "tools": [_TOOL], "tool_choice": "auto", "parallel_tool_calls": True},
    {**_ASK, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}}},
    {**_ASK, "structured_outputs": {"regex": "[ab]{1,3}"}, "min_tokens": 1, "top_k": 5, "min_p": 0.1},
    {**_ASK, "genkan": {"cache": "no-cache", "cache_ttl_s": 5, "priority": 1, "tags": ["t"]}, "metadata": {"a": "b"}},
    {
        **_ASK,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Xin chào"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
    },
]
#: Right bodies by path.
GOOD: Final[dict[str, list[Any]]] = {
    "/v1/chat/completions": _CHATS,
    "/v1/completions": [
        {"model": "default", "prompt": "Once", "max_tokens": 2},
        {"model": "default", "prompt": ["a", "b"], "max_tokens": 1, "echo": True, "logprobs": 1, "stream": True},
        {"model": "default", "prompt": [1, 2, 3], "max_tokens": 1, "best_of": 1, "suffix": ""},
    ],
    "/v1/embeddings": [
        {"model": "multilingual-e5-small", "input": "xin chào"},
        {"model": "multilingual-e5-small", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8},
    ],
    "/call": [{"messages": _HI, "max_tokens": 2}, {**_ASK, "stream": True}],
    "/batch_predict": [{"requests": [_ASK, _ASK]}, [_ASK]],
    "/admin/keys": [{"tenant": "t", "name": "n", "role": "user", "expires_in_s": 60, "budgets": []}],
}

_HOSTILE: Final[list[Callable[[random.Random], Any]]] = [
    lambda _: None,
    lambda _: True,
    lambda _: [],
    lambda _: {},
    lambda _: "",
    lambda rng: rng.choice([0, -1, 1, 2**31, -(2**31), 2**63 - 1, 2**63, -(2**63), 2**64 - 1]),
    lambda rng: rng.choice([0.5, -0.0, 1e308, 5e-324, 1.0, 2.5]),
    lambda rng: rng.choice(["\x00", "\u202e", "\ufeff", "🦊" * 20, "é", "\ud7ff", "%s%n", "{{7*7}}", "../../x", "'"]),
    lambda rng: "x" * rng.choice([1, 63, 64, 65, 255, 256, 257, 2000]),
    lambda rng: [rng.choice([None, 0, "a", {}, []])] * rng.choice([1, 4, 5, 17, 129, 301]),
    lambda rng: nested(rng.choice([3, 30, 64, 65, 99, 101])),
    lambda rng: {rng.choice(["a", "", "__proto__", "type", "role", "$ref"]): rng.choice([None, 1, "x", []])},
    lambda rng: rng.choice(["auto", "none", "required", "json_object", "user", "system", "function", "tool", "text"]),
]
_NAMES: Final = (
    "model", "messages", "prompt", "input", "stream", "n", "stop", "tools", "functions", "response_format", "api_base",
    "api_key", "headers", "genkan", "cache_salt", "continue_text", "logit_bias", "audio", "modalities", "store",
    "guided_json", "guided_regex", "structured_outputs", "echo", "logprobs", "prediction", "reasoning_effort", "x",
    "tool_choice", "stream_options", "cache_control", "prompt_cache", "fallbacks", "models", "metadata", "service_tier",
)  # fmt: skip
_LITERALS: Final = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 5000, b'"\\ud800"', b'"\\u0000"', b"01", b".5",
    b"+1", b"'x'", b"tru", b"nul", b"/**/1", b"[" * 2000, b'{"a":' * 500, b'"\xff"', b'"\xed\xa0\x80"', b"1.", b"0x10",
    b'"\t"',
)  # fmt: skip
_JUNK: Final = (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\u", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\xed\xa0\x80")
#: What a real model is asked for at most, so that an answer takes less than a second.
_TAME: Final = {"max_tokens": 4, "max_completion_tokens": 4, "min_tokens": 2, "n": 2, "best_of": 2}


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutated_body(rng: random.Random, body: Any, *, tame: bool) -> bytes:
    """The body with one to three of its values, at any depth, changed, taken out, doubled or joined by others."""
    body = copy.deepcopy(body)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        _change(rng, body)
    if tame:
        _tame(body)
    text = json.dumps(body).encode()
    if rng.random() < 0.12:
        text = _with_literal(rng, text)
    if rng.random() < 0.05:
        text = _with_double_key(rng, text)
    return text


def mutated_bytes(rng: random.Random, text: bytes) -> bytes:
    """The text cut, with bytes flipped, taken out, put in, or doubled."""
    data = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = rng.choice(_JUNK)
            case 2 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 3:
                del data[at : at + rng.choice([1, 2, 10])]
            case 4:
                data[at:at] = data[at : at + 30]
            case _:
                data[at:at] = rng.randbytes(rng.choice([1, 4, 40]))
    return bytes(data)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def _change(rng: random.Random, body: Any) -> None:
    places = _places(body)
    if not places:
        return
    holder, key = rng.choice(places)
    hostile = rng.choice(_HOSTILE)(rng)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(_NAMES)] = hostile
        case 2 if isinstance(holder, list):
            holder.append(copy.deepcopy(rng.choice(holder)))
        case 3 if isinstance(body, dict):
            body[rng.choice(_NAMES)] = hostile
        case _:
            holder[key] = hostile


def _tame(body: Any) -> None:
    """Bound what is asked for, wherever it stands, and of every request for text that does not say."""
    for holder, key in _places([body]):
        given = holder[key]
        if isinstance(key, str) and key in _TAME and type(given) is int and given > _TAME[key]:
            holder[key] = _TAME[key]
        if isinstance(given, dict) and given.keys() & {"messages", "prompt"} and given.get("max_tokens") is None:
            given["max_tokens"] = 2


def _with_literal(rng: random.Random, text: bytes) -> bytes:
    """A value in the place of another that no JSON library would write."""
    colons = [at for at, byte in enumerate(text) if byte == ord(":")]
    if not colons:
        return text
    at = rng.choice(colons) + 1
    end = min((found for mark in (b",", b"}") if (found := text.find(mark, at)) > 0), default=len(text))
    return text[:at] + rng.choice(_LITERALS) + text[end:]


def _with_double_key(rng: random.Random, text: bytes) -> bytes:
    if not text.startswith(b"{"):
        return text
    return b'{"%s": %s, ' % (rng.choice(_NAMES).encode(), rng.choice([b"1", b'"x"', b"null", b"[]"])) + text[1:]
