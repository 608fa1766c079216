"""``POST /v1/embeddings``."""

import asyncio

from genkan.api.disconnect import cancelled_on_disconnect
from genkan.api.exchange import Exchange
from genkan.config import ServerConfig
from genkan.errors import ModelNotFound
from genkan.gateway.embedding import EmbeddingAnswer, Embeddings
from genkan.wire.embeddings import EmbeddingRequest, embedding_pieces

_MOST_INPUTS = 2048  # where there is no model to say


class EmbeddingEndpoint:
    """Reads a request for embeddings, and sends what the gateway answers."""

    def __init__(self, embeddings: Embeddings | None, server: ServerConfig, *, max_inputs: int = _MOST_INPUTS) -> None:
        """``embeddings`` is None where no model is configured for them: then there are none, for any name."""
        self._embeddings = embeddings
        self._max_inputs = max_inputs
        self._max_body_bytes, self._body_timeout_s = server.max_body_bytes, server.body_timeout_s
        self._send_timeout_s = server.send_timeout_s

    async def __call__(self, exchange: Exchange) -> None:
        exchange.send_timeout_s = self._send_timeout_s
        body = await exchange.json_body(limit_bytes=self._max_body_bytes, timeout_s=self._body_timeout_s)
        request = EmbeddingRequest.parse(body, max_inputs=self._max_inputs)
        exchange.fields["model"], exchange.fields["texts"] = request.model, len(request.texts)
        exchange.generation = ("embeddings", request.model)
        if self._embeddings is None:
            raise _nothing_configured(request.model)
        with cancelled_on_disconnect(exchange):
            answer = await self._embeddings.respond(request, exchange.caller)
            exchange.fields["upstream"] = self._embeddings.model.upstream
            exchange.fields["usage"] = {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens}
            whole = await _written(answer, request)
        await exchange.reply(whole, headers=answer.headers)


async def _written(answer: EmbeddingAnswer, request: EmbeddingRequest) -> bytes:
    """The body. 2,048 texts of 384 dimensions are 10 MB and take 30 ms: others get their turn every millisecond."""
    pieces: list[bytes] = []
    for piece in embedding_pieces(answer.vectors, model=request.model, encoding=request.encoding, tokens=answer.tokens):
        if len(pieces) > 1:
            await asyncio.sleep(0)
        pieces.append(piece)
    return b"".join(pieces)


def _nothing_configured(model: str) -> ModelNotFound:
    error = ModelNotFound(model)
    error.message = "There are no embeddings here: the configuration has no 'embedder'."
    return error
