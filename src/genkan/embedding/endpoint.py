"""The door of the embedder: what comes in here is answered by a method that BentoML batches.

BentoML's stack takes pickle, has no bound on its queue, and answers with errors of its own; so a request is read and
let in here, handed to BentoML's router as plain JSON, and an error that comes back becomes ours.
"""

import logging
from typing import Any, Protocol

from genkan.api.exchange import Exchange, Message, Receive, Send
from genkan.api.routes import Api
from genkan.embedding.backlog import Backlog
from genkan.errors import EngineFailed, EngineOverloaded, InvalidRequest
from genkan.upstream.embedder import EMBED_PATH, PATIENCE_HEADER

_BODY_LIMIT_BYTES = 16 << 20
_BODY_S = 30.0
_PATIENCE_MS = 60_000
_log = logging.getLogger("genkan.embedder")


class Methods(Protocol):
    """BentoML's methods as an ASGI application."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None: ...


class Entered(Protocol):
    """What the door needs to know of the process behind it."""

    backlog: Backlog

    def check_ready(self) -> None: ...


class EmbedEndpoint:
    """Lets requests in while there is room for them, and passes them to BentoML's ``methods``."""

    def __init__(self, process: Entered, methods: Methods) -> None:
        self._process = process
        self._methods = methods

    async def __call__(self, exchange: Exchange) -> None:
        """Raises EngineUnavailable, EngineOverloaded, InvalidRequest, EngineFailed."""
        self._process.check_ready()
        body = await exchange.json_body(limit_bytes=_BODY_LIMIT_BYTES, timeout_s=_BODY_S)
        backlog = self._process.backlog
        if not backlog.enter(len(body), _patience_s(exchange)):
            raise EngineOverloaded("The embedder has more texts than it can embed in time.")
        try:
            answer = await self._batched(body)
        finally:
            backlog.leave(len(body))
        await exchange.reply(answer)

    async def _batched(self, body: bytes) -> bytes:
        passed = _Passed(body)
        await self._methods(passed.scope, passed.receive, passed.send)
        if passed.status == 400:
            raise InvalidRequest("The body must be an object with 'texts', a list of texts.", param="texts")
        if passed.status == 503:
            raise EngineOverloaded("The embedder could not take the texts in time.")
        if passed.status != 200:
            _log.error("BentoML answered a batch with status %d", passed.status)
            raise EngineFailed("The embedder failed on these texts.")
        return b"".join(passed.pieces)


class _Passed:
    """A request that was read already, as BentoML's router gets it, and its response, kept."""

    __slots__ = ("_body", "pieces", "status")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status = 0
        self.pieces: list[bytes] = []

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": EMBED_PATH,
            "raw_path": EMBED_PATH.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.pieces.append(bytes(message.get("body", b"")))


def door(process: Entered, methods: Methods) -> Api:
    """The embedder's application. Its socket lies in a folder that only this user can enter, so all may come in."""
    return Api({EMBED_PATH: {"POST": EmbedEndpoint(process, methods)}}, lambda _: None)


def _patience_s(exchange: Exchange) -> float:
    given = exchange.header(PATIENCE_HEADER.encode()) or b""
    return (int(given) if given.isdigit() and len(given) < 9 else _PATIENCE_MS) / 1000
