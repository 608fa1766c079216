"""``POST /tokenize`` of the engine's process, as vLLM has it: how many tokens a prompt has."""

from typing import Any, Protocol

import orjson

from genkan.api.exchange import Exchange
from genkan.config import ServerConfig
from genkan.upstream.token_count import TokenCount
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.strict_json import parse_object


class CountingModels(Protocol):
    """The models in this process."""

    async def count_tokens(self, request: GenerationRequest) -> TokenCount:
        """May raise RequestError."""


class TokenizeEndpoint:
    """Takes what a chat or a completion takes, and says how long its prompt is. The tokens themselves stay here."""

    def __init__(self, models: CountingModels, server: ServerConfig) -> None:
        self._models = models
        self._server = server

    async def __call__(self, exchange: Exchange) -> None:
        server = self._server
        body = await exchange.json_body(limit_bytes=server.max_body_bytes, timeout_s=server.body_timeout_s)
        counted = await self._models.count_tokens(_request(parse_object(body)))
        await exchange.reply(orjson.dumps(counted))


def _request(raw: dict[str, Any]) -> GenerationRequest:
    return ChatRequest.from_object(raw) if "messages" in raw else CompletionRequest.from_object(raw)
