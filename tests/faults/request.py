"""A request as it comes off the socket: HTTP/1.1 read by hand, so that nothing is repaired on the way in."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

import orjson
from faults.canonical import USAGE, Canonical

#: The one model that answers before it has read everything, so it is looked for while the body comes in.
EARLY_MODEL = "early-response"
_EARLY = re.compile(rb'"model"\s*:\s*"' + EARLY_MODEL.encode())
_PIECE_BYTES = 512


@dataclass(slots=True)
class Request:
    """One request. Names of headers are in lower case; a header that came twice has both values, joined by a comma."""

    method: str
    path: str
    headers: dict[str, str]
    raw_body: bytes = b""
    #: What of the body has not been read yet: only the early answer leaves any.
    unread_bytes: int = 0
    body: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.body = _as_object(self.raw_body)
        if self.unread_bytes:
            self.body = {"model": EARLY_MODEL, "stream": re.search(rb'"stream"\s*:\s*true', self.raw_body) is not None}

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def fault(self) -> str:
        """The model's name up to an ``@``: what follows it gives the calls of one test a state of their own."""
        return self.model.partition("@")[0]

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def key(self) -> str:
        return self.authorization.removeprefix("Bearer ")

    @property
    def canonical(self) -> Canonical:
        options = self.body.get("stream_options") or {}
        return Canonical(
            self.model,
            chat=self.path.endswith("/chat/completions"),
            include_usage=options.get("include_usage") is True,
            prompt_tokens=int(self.number("x_prompt_tokens", USAGE["prompt_tokens"])),
        )

    def number(self, name: str, default: float) -> float:
        """What the body says under ``name``: how long a fault lasts and the like."""
        return float(self.body.get(name, default))


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next request. Raises IncompleteReadError at the connection's end, ValueError when it is no HTTP."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers: dict[str, str] = {}
    for name, _, value in (entry.partition(":") for entry in fields):
        seen = headers.get(name.lower())
        headers[name.lower()] = value.strip() if seen is None else f"{seen}, {value.strip()}"
    body, unread_bytes = await _read_body(reader, headers)
    return Request(method, target.partition("?")[0], headers, body, unread_bytes)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[bytes, int]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader), 0
    left_bytes = int(headers.get("content-length", "0"))
    body = bytearray()
    while left_bytes:
        piece = await reader.read(min(left_bytes, _PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(bytes(body), left_bytes)
        body += piece
        left_bytes -= len(piece)
        if _EARLY.search(body, max(0, len(body) - 2 * _PIECE_BYTES)):
            break
    return bytes(body), left_bytes


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return bytes(body)


def _as_object(raw: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
