"""Many clients at once, each on a connection of its own, whose requests all arrive in the same moment."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from faults.canonical import TOKENS

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One response, whole. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))

    @property
    def code(self) -> str | None:
        """Of an error."""
        return None if self.status < 400 else str(self.json["error"]["code"])

    @property
    def retry_s(self) -> float:
        """When to come again."""
        return int(self.headers["retry-after-ms"]) / 1000


class Talk:
    """One connection: requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def ask(self, request: bytes) -> Reply:
        self.write(request)
        return await self.reply()

    async def reply(self) -> Reply:
        """The next response, all of it."""
        async with asyncio.timeout(PATIENCE_S):
            status, headers = await self.head()
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self._chunks()
        return Reply(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        return int(line.split(" ", 2)[1]), {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readuntil(b"\r\n")
        return body

    async def aclose(self) -> None:
        """Break it off."""
        self._writer.transport.abort()
        await asyncio.sleep(0)


def chat(key: str, model: str = "ok", **more: Any) -> bytes:
    """A request for as many tokens as the fault upstream's answers have."""
    body = {"model": model, "messages": [{"role": "user", "content": "Count."}], "max_tokens": len(TOKENS), **more}
    data = orjson.dumps({name: value for name, value in body.items() if value is not None})
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(data), data)
    )


def get(key: str | None, path: str) -> bytes:
    key_line = "" if key is None else f"authorization: Bearer {key}\r\n"
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{key_line}\r\n".encode()


def race(port: int, requests: Sequence[bytes], *, before: Callable[[], object] = lambda: None) -> list[Reply]:
    """The replies to ``requests``, each of which is sent but for its last byte before the first is sent whole.

    ``before`` is called when all connections are there and nothing has been asked.
    """

    async def run() -> list[Reply]:
        talks = await asyncio.gather(*(Talk.open(port) for _ in requests))
        try:
            for talk, request in zip(talks, requests, strict=True):
                talk.write(request[:-1])
            before()
            for talk, request in zip(talks, requests, strict=True):
                talk.write(request[-1:])
            return await asyncio.gather(*(talk.reply() for talk in talks))
        finally:
            await asyncio.gather(*(talk.aclose() for talk in talks))

    return asyncio.run(run())
