"""A client that talks ASGI to an application, with the request in pieces and a connection that can break."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from genkan.app import Asgi

JSON_HEADERS = ((b"content-type", b"application/json"),)


class AsgiClient:
    """One connection: its request is ``pieces``; ``disconnect`` breaks it."""

    def __init__(self, app: Asgi, *, peer: str | None = "127.0.0.1") -> None:
        self._app = app
        self._peer = peer
        self._gone = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.arrived = asyncio.Event()  # set whenever a piece of the response arrives
        self.ended = False
        self.unsent: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def error(self) -> dict[str, Any]:
        content = json.loads(self.body)
        assert list(content) == ["error"]
        assert set(content["error"]) == {"message", "type", "param", "code"}
        return dict(content["error"])

    def disconnect(self) -> None:
        self._gone.set()

    async def request(
        self,
        method: str,
        path: str,
        pieces: Iterable[bytes] = (b"",),
        headers: Iterable[tuple[bytes, bytes]] = JSON_HEADERS,
        *,
        hold_body: bool = False,
    ) -> "AsgiClient":
        """Send one request and take the whole response. With ``hold_body`` the last piece never comes."""
        path, _, query = path.partition("?")
        waiting = self.unsent = list(pieces)

        async def receive() -> dict[str, Any]:
            if len(waiting) > 1 or (waiting and not hold_body):
                body = waiting.pop(0)
                return {"type": "http.request", "body": body, "more_body": hold_body or bool(waiting)}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert self.status == 0, "the response started twice"
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            assert self.status != 0, "a body came before the response started"
            assert not self.ended, "a body came after the end"
            self.pieces.append(message["body"])
            self.ended = not message.get("more_body", False)
            self.arrived.set()
            if self.ended:
                self._gone.set()  # as uvicorn: receive() reports a finished response as a disconnect

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "query_string": query.encode(),
            "root_path": "",
            "method": method,
            "path": path,
            "headers": list(headers),
            "client": (self._peer, 12345) if self._peer else None,
        }
        await self._app(scope, receive, send)
        return self


async def post(app: Asgi, path: str, body: object) -> AsgiClient:
    """POST ``body``, bytes or anything JSON can write."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await AsgiClient(app).request("POST", path, [content])
