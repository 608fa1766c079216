"""Upstreams of kinds ``openai``, ``vllm`` and ``sglang``: providers, model servers, another gateway."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from genkan.clock import Clock
from genkan.config import OpenAiUpstreamConfig
from genkan.errors import UpstreamError
from genkan.upstream.base import Call, Way
from genkan.upstream.bulkhead import Bulkhead
from genkan.upstream.dialers import TcpDialer
from genkan.upstream.going_on import continued, way_on
from genkan.upstream.http_upstream import HttpUpstream
from genkan.upstream.operators_fields import operators_field, refuse_operators_fields
from genkan.upstream.prefix_salt import PrefixSalts
from genkan.upstream.refusals import refusal, refusal_in_answer
from genkan.upstream.token_count import TOKENIZE_PATH, beside_v1, counted
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.extras import without_extras
from genkan.wire.said import Said

_SECRET_CHARS = 8  # shorter header values are words, and would be taken out of messages that mean them


class OpenAiUpstream(HttpUpstream):
    """A server with OpenAI's API at ``config.base_url``, spoken to with ``key``."""

    def __init__(
        self, config: OpenAiUpstreamConfig, key: str | None, clock: Clock, salts: PrefixSalts | None = None
    ) -> None:
        """``salts`` are for servers whose prefix cache tenants are not to share; None leaves requests as they are."""
        credential = {"authorization": f"Bearer {key}"} if key else {}
        url = urlsplit(config.base_url)
        super().__init__(
            config.name,
            dial=TcpDialer(config.base_url),
            kept=config.connections,
            host=url.netloc,
            headers={**config.headers, **credential},
            timeouts=config.timeouts,
            bulkhead=Bulkhead(config.connections.limit, config.connections.queue),
        )
        self.repeats_beginning = config.prefill == "prefix-echoed"
        self._path = url.path
        self._config = config
        self._is_model_server = config.kind in ("vllm", "sglang")
        secrets = [key] if key else []
        words = [word for value in config.headers.values() for word in (value, *value.split())]
        secrets += [word for word in words if len(word) >= _SECRET_CHARS]
        self._secrets = tuple(sorted(secrets, key=len, reverse=True))  # one may be a part of another
        self._clock = clock
        self._salts = salts

    def _target(self, path: str) -> str:
        if path == TOKENIZE_PATH:
            return beside_v1(self._path)
        return self._path + path.removeprefix("/v1")

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        """See Upstream."""
        if not self._config.counts_tokens or (self._is_model_server and operators_field(request) is not None):
            return None
        return await counted(self, request, model, limit_s=limit_s)

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        """See Upstream."""
        config = self._config
        return way_on(request, said, config.prefill, takes_raw=config.raw_completions)

    def _body(self, request: GenerationRequest, model: str, call: Call) -> bytes:
        if self._is_model_server:
            refuse_operators_fields(request, upstream=self.name)
        body = {**without_extras(request.raw), "model": model}
        if self._salts is not None:
            self._salts.apply(body, call.tenant)
        if request.stream and self._config.stream_usage:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        if call.max_tokens is not None:
            body[self._bound_name(request, body)] = call.max_tokens
        if call.continuation is not None:
            body = continued(body, request, call.continuation, self._config.prefill)
        return orjson.dumps(body)

    def _bound_name(self, request: GenerationRequest, body: Mapping[str, Any]) -> str:
        if "max_completion_tokens" in body:  # null: who says that knows that the newer name is known there
            return "max_completion_tokens"
        return self._config.max_tokens_name if isinstance(request, ChatRequest) else "max_tokens"

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return refusal(status, headers, body, upstream=self.name, secrets=self._secrets, now_unix_s=self._clock.unix())

    def _error_in_answer(self, error: Any) -> UpstreamError:
        return refusal_in_answer(error, upstream=self.name, secrets=self._secrets)
