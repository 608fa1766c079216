"""Reads one HTTP response from a socket, and says what is wrong with it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import orjson
from fuzz.inputs import Input

HANG_S: Final = 5.0
_ERROR_KEYS: Final = {"message", "type", "param", "code"}
_NO_BODY: Final = (204, 304)
MOST_HEAD: Final = 256 << 10  # bytes of a line that a reader must be able to hold


class Malformed(Exception):
    """What came is no HTTP response."""


@dataclass(slots=True)
class Answer:
    """A response, whole."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool) -> Answer | None:
    """The next response; None if the connection ends before it begins. Raises Malformed, IncompleteReadError."""
    while True:
        answer = await _read_head(reader)
        if answer is None or answer.status >= 200:
            break
    if answer is None or is_head or answer.status in _NO_BODY:
        return answer
    if answer.headers.get("transfer-encoding") == "chunked":
        answer.body = await _read_chunks(reader)
    elif "content-length" in answer.headers:
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
    else:
        answer.body = await reader.read()
    return answer


def fault(given: Input, answer: Answer) -> str | None:
    """What is wrong with an answer; None: nothing. Overload is told by `is_overload`, and is no fault here."""
    if "x-request-id" not in answer.headers:
        return "no x-request-id"
    if answer.status >= 500 and not is_overload(answer):
        return f"status {answer.status}: {answer.body[:200]!r}"
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400:
        return _error_fault(given, answer, kind)
    if not 200 <= answer.status < 300:
        return f"status {answer.status}"
    if kind == "text/event-stream":
        return (
            None if answer.body.endswith(b"data: [DONE]\n\n") else f"a stream without its end: {answer.body[-200:]!r}"
        )
    if kind == "application/json" and answer.body:
        try:
            orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return f"not JSON: {answer.body[:200]!r}"
    return None


def is_overload(answer: Answer) -> bool:
    """Whether it says that there are too many requests; counted apart, and none at a campaign's rate."""
    return answer.status == 503 and "retry-after" in answer.headers


def _error_fault(given: Input, answer: Answer, kind: str) -> str | None:
    if given.method == "HEAD" and given.raw is None:
        return None
    if kind != "application/json":
        return f"status {answer.status} as {kind or 'nothing'}"
    try:
        error = orjson.loads(answer.body)["error"]
        whole = set(error) == _ERROR_KEYS and isinstance(error["message"], str) and isinstance(error["type"], str)
        texts = all(error[name] is None or isinstance(error[name], str) for name in ("param", "code"))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        whole = texts = False
    return None if whole and texts and error["message"] else f"no error of OpenAI's: {answer.body[:200]!r}"


async def _read_head(reader: asyncio.StreamReader) -> Answer | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Malformed(f"half a head: {error.partial[:100]!r}") from None
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Malformed(f"no status line: {first[:100]!r}")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(rest[:3]), {name.lower(): value.strip() for name, _, value in pairs})


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while True:
        length = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        pieces.append(await reader.readexactly(length))
        await reader.readexactly(2)
        if length == 0:
            return b"".join(pieces)
