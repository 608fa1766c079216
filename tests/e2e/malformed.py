"""Requests that are wrong, each in one way, and what exactly must be said about them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
CALL: Final = "/call"
JSON: Final = {"content-type": "application/json"}
WINDOW: Final = 8192  # tokens of the default model
BODY_LIMIT: Final = 4 << 20
GOOD: Final[dict[str, Any]] = {
    "model": "default",
    "messages": [{"role": "user", "content": "Say hi."}],
    "max_tokens": 1,
    "temperature": 0,
}
GOOD_TEXT: Final[dict[str, Any]] = {"model": "default", "prompt": "Say hi.", "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """One wrong request, and the error that it must get."""

    name: str
    status: int = 400
    code: str = "invalid_value"
    param: str | None = None
    mentions: tuple[str, ...] = ()  # parts of the message
    method: str = "POST"
    path: str = CHAT
    headers: dict[str, str]
    body: bytes = b""
    chunk_bytes: int = 0  # send the body in chunks of this size, its length undeclared

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self.body), self.chunk_bytes):
            yield self.body[start : start + self.chunk_bytes]


def wrong_request(name: str, body: Any = None, **expected: Any) -> Malformed:
    """``body`` as bytes, or as an object that becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Malformed(name=name, body=data, **{"headers": JSON, **expected})


def wrong_chat(name: str, *, param: str | None = None, **changed: Any) -> Malformed:
    """The good chat request with fields changed; the first of them is the wrong one unless ``param`` says other."""
    expected = {key[1:]: changed.pop(key) for key in list(changed) if key in ("_code", "_mentions", "_status")}
    return wrong_request(name, {**GOOD, **changed}, param=next(iter(changed)) if param is None else param, **expected)


def with_field(field: str, value: Any, **expected: Any) -> Malformed:
    shown = json.dumps(value)
    name = f"{field[:40]} {shown if len(shown) < 40 else f'{shown[:30]}... ({len(shown)})'}"
    return wrong_request(name, {**GOOD, field: value}, **{"param": field, **expected})


def with_literal(field: str, literal: str) -> bytes:
    """The good chat request with a field that no JSON library would write."""
    return json.dumps({**GOOD, field: "@"}).replace('"@"', literal).encode()
