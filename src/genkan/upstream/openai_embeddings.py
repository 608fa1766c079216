"""Embeddings from an upstream of kind ``openai``, over its own connections and with its key."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from genkan.config import EmbedderConfig
from genkan.errors import UpstreamError
from genkan.upstream.embeddings import Embedded, in_pieces, prepared
from genkan.upstream.http_upstream import HttpUpstream
from genkan.upstream.phase_timer import PhaseTimer

EMBEDDINGS_PATH = "/v1/embeddings"

_PIECE_TEXTS = 256  # what servers take in one request: OpenAI 2,048, and 300,000 tokens; others less
_PIECE_CHARS = 200_000
_BYTES_PER_TOKEN = 4  # of a server that does not say how many there were


class OpenAiEmbeddings:
    """The embeddings of one model there. The upstream stays its owner's to close."""

    def __init__(self, upstream: HttpUpstream, model: str, config: EmbedderConfig) -> None:
        """The prefix is put before texts only if the configuration sets one: the default is for the built-in model."""
        self._upstream = upstream
        self._model = model
        self._prefix = config.prefix if "prefix" in config.model_fields_set else ""

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedded:
        """See Embeds. Which text is too long is the upstream's to say; its tokens are told apart by length only."""
        ready = prepared(texts, self._prefix)
        timer = PhaseTimer(self._upstream.name, total_s=timeout_s)
        vectors: list[NDArray[np.float32]] = []
        tokens: list[int] = []
        try:
            with timer.phase("total", timeout_s):
                for piece in in_pieces(ready, most=_PIECE_TEXTS, most_chars=_PIECE_CHARS):
                    answer = await self._ask(piece, timeout_s)
                    vectors += self._vectors(answer, len(piece))
                    tokens += _tokens(answer, piece)
        finally:
            timer.close()
        if len({vector.shape for vector in vectors}) > 1:
            raise self._broken()
        return Embedded(np.stack(vectors) if vectors else np.empty((0, 0), np.float32), tokens)

    async def aclose(self) -> None:
        """Nothing here is open."""

    async def _ask(self, texts: Sequence[str], limit_s: float) -> dict[str, Any]:
        body = orjson.dumps({"model": self._model, "input": texts, "encoding_format": "float"})
        answer = await self._upstream.post(EMBEDDINGS_PATH, body, limit_s=limit_s)
        try:
            found = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise self._broken() from error
        if not isinstance(found, dict):
            raise self._broken()
        return found

    def _vectors(self, answer: dict[str, Any], count: int) -> list[NDArray[np.float32]]:
        try:
            data = answer["data"]
            by_place = {item.get("index", place): _unit(item["embedding"]) for place, item in enumerate(data)}
            if len(data) != count:
                raise ValueError(f"{len(data)} vectors for {count} texts")
            return [by_place[place] for place in range(count)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._broken() from error

    def _broken(self) -> UpstreamError:
        return self._upstream.broken("The embeddings are malformed.")


def _unit(embedding: Any) -> NDArray[np.float32]:
    """A vector of length 1, from numbers or from base64, which some servers always send. Raises ValueError."""
    if isinstance(embedding, str):
        vector = np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    else:
        vector = np.asarray(embedding, np.float32)
    length = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(length) or length == 0:
        raise ValueError("no vector")
    return (vector / length).astype(np.float32)


def _tokens(answer: dict[str, Any], texts: Sequence[str]) -> list[int]:
    """The tokens of each text, in proportion to its bytes; together what the server counted, if it says."""
    sizes = np.array([len(text.encode()) for text in texts], np.float64)
    usage = answer.get("usage")
    total = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if type(total) is not int or total < 0:
        total = int(np.ceil(sizes / _BYTES_PER_TOKEN).sum())
    ends = np.rint(np.cumsum(sizes) / sizes.sum() * total).astype(np.int64)
    return [int(tokens) for tokens in np.diff(ends, prepend=0)]
