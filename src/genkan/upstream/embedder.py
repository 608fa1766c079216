"""The embedder, in its own process, over its Unix socket.

A request of many texts goes there a few texts at a time, the next when the last were answered: so a question that
somebody waits for gets its turn between the pieces of a catalogue. The embedder puts what it gets from all workers at
the same time together again. Vectors travel as base64 of float32, which is a fifth of what they are as JSON numbers.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from genkan.config import EmbedderConfig
from genkan.errors import ConnectFailed, ContextTooLong, TimedOut, UpstreamBroken, UpstreamError
from genkan.upstream.answer_events import MAX_BODY_BYTES, some_of
from genkan.upstream.dialers import UnixDialer
from genkan.upstream.embeddings import Embedded, in_pieces, param_of, prepared
from genkan.upstream.http_client import ConnectTimeout, HttpClient, HttpError, NotConnected, Response
from genkan.upstream.phase_timer import PhaseTimer
from genkan.upstream.refusals import relayed

#: Where the embedder takes texts.
EMBED_PATH = "/embed"

#: How long a request waits, so that one that would come too late is refused at once.
PATIENCE_HEADER = "x-genkan-patience-ms"

_NAME = "embedder"
_CONNECT_S = 2.0
_KEPT = 64
_KEPT_S = 3.0  # its server closes a connection that was idle for 5 s
_PIECE_CHARS = 8192  # about four long texts: 0.2 s of two cores
_HEAD = f"POST {EMBED_PATH} HTTP/1.1\r\nhost: embedder\r\ncontent-type: application/json\r\n{PATIENCE_HEADER}: "


class EmbedderClient:
    """Embeddings from the embedder's process. Use it in one event loop, and ``aclose`` it."""

    def __init__(self, socket_path: str, config: EmbedderConfig) -> None:
        self._config = config
        self._http = HttpClient(UnixDialer(socket_path), connect_s=_CONNECT_S, keep_alive=_KEPT, keep_alive_s=_KEPT_S)

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedded:
        """See Embeds."""
        ready = prepared(texts, self._config.prefix)
        head = f"{_HEAD}{1000 * timeout_s:.0f}\r\n".encode()
        timer = PhaseTimer(_NAME, total_s=timeout_s)
        vectors: list[NDArray[np.float32]] = []
        tokens: list[int] = []
        try:
            with timer.phase("total", timeout_s):
                for piece in in_pieces(ready, most=self._config.max_batch_size, most_chars=_PIECE_CHARS):
                    for item in await self._ask(head, piece):
                        self._take(item, vectors, tokens, len(ready))
        finally:
            timer.close()
        return Embedded(_stacked(vectors), tokens)

    async def aclose(self) -> None:
        """Close every connection; what is under way fails."""
        self._http.close()

    async def _ask(self, head: bytes, texts: Sequence[str]) -> list[Any]:
        body = orjson.dumps({"texts": texts})
        message = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        try:
            response = await self._http.request(message)
            try:
                answer = response.read_now() if response.ended else await some_of(response, MAX_BODY_BYTES + 1)
            finally:
                response.close()
        except HttpError as error:
            raise _named(error) from error
        if response.status != 200:
            raise _refused(response, answer)
        return _items(answer, len(texts))

    def _take(self, item: Any, vectors: list[NDArray[np.float32]], tokens: list[int], count: int) -> None:
        try:
            given, vector = item["tokens"], item["vector"]
            if not vector:
                raise ContextTooLong(
                    limit_tokens=self._config.max_tokens,
                    prompt_tokens=given,
                    max_tokens=0,
                    param=param_of(len(vectors), count),
                )
            vectors.append(np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4"))
            tokens.append(int(given))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise _broken() from error


def _items(answer: bytes, count: int) -> list[Any]:
    try:
        items = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise _broken() from error
    if not isinstance(items, list) or len(items) != count:
        raise _broken()
    return items


def _stacked(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len({vector.shape for vector in vectors}) > 1:
        raise _broken()
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def _named(error: HttpError) -> UpstreamError:
    if isinstance(error, ConnectTimeout):
        return TimedOut(upstream=_NAME, phase="connect", limit_s=_CONNECT_S)
    if isinstance(error, NotConnected):
        return ConnectFailed("The embedder cannot be reached.", upstream=_NAME)
    return UpstreamBroken("The connection to the embedder broke.", upstream=_NAME)


def _refused(response: Response, body: bytes) -> UpstreamError:
    retry_after = response.headers.get("retry-after", "")
    after_s = float(retry_after) if retry_after.isdecimal() else None
    return relayed(response.status, body, after_s, upstream=_NAME) or _broken()


def _broken() -> UpstreamBroken:
    return UpstreamBroken("The embedder's answer is malformed.", upstream=_NAME)
