"""The embedded engine, in its own process, over its Unix socket.

The engine speaks OpenAI's HTTP, so this is an HTTP client like any other; what is special is that its errors are
already ours, and its prefix cache. The engine's server closes a connection that was idle for 5 s; ours leave the pool
after 3 s.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from genkan.config import ConnectionsConfig, EngineUpstreamConfig
from genkan.errors import UpstreamError
from genkan.upstream.base import Call, Way
from genkan.upstream.bulkhead import Bulkhead
from genkan.upstream.dialers import UnixDialer
from genkan.upstream.http_upstream import HttpUpstream
from genkan.upstream.refusals import relayed
from genkan.upstream.token_count import counted
from genkan.wire.chat import CompletionRequest, GenerationRequest
from genkan.wire.continuing import CONTINUE_TEXT, MAX_CONTINUED_BYTES
from genkan.wire.said import Said

#: Where the engine shows and purges its prefix cache, on its socket as on the gateway.
PREFIX_CACHE_PATH = "/admin/prefix-cache"

#: How the engine learns whose request it is: tenants share its time fairly, and no cached prefix.
TENANT_HEADER = "x-genkan-tenant"

_KEPT = ConnectionsConfig(keep_alive=100, keep_alive_s=3.0)
_ADMIN_S = 30.0  # the engine answers between two forward passes, and the prefill of a long chunk takes seconds


class LocalEngine(HttpUpstream):
    """An upstream of kind ``engine``. It has a queue of its own, so nothing is held back here."""

    def __init__(self, config: EngineUpstreamConfig, socket_path: str) -> None:
        super().__init__(
            config.name,
            dial=UnixDialer(socket_path),
            kept=_KEPT,
            host="engine",
            headers={},
            timeouts=config.timeouts,
            bulkhead=Bulkhead(0, 0),
        )

    def _own_headers(self, call: Call) -> bytes:
        return super()._own_headers(call) + f"{TENANT_HEADER}: {call.tenant}\r\n".encode("ascii")

    async def prefix_cache(self, model: str | None = None) -> bytes:
        """The prefix cache of ``model``, or of the first, as the JSON that the engine gives. Raises UpstreamError."""
        return await self._administer("GET", _named(model))

    async def purge_prefix_cache(self, tenant: str, model: str | None = None) -> bytes:
        """Have the engine drop a tenant's pages, of a model or of all; what it says, as JSON. Raises UpstreamError."""
        return await self._administer("DELETE", {"tenant": tenant, **_named(model)})

    async def _administer(self, method: str, parameters: dict[str, str]) -> bytes:
        return await self.exchange(method, PREFIX_CACHE_PATH, parameters, limit_s=_ADMIN_S)

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        """``prompt``, where it has said nothing but text: the engine goes on from the ids, its form and its penalties.

        One of the vLLM backend refuses that where there is a form or a penalty. Who sent a beginning has no other.
        """
        can = said.is_text and 0 < said.size_bytes <= MAX_CONTINUED_BYTES and CONTINUE_TEXT not in request.raw
        return "prompt" if can and _is_one(request) else "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        """See Upstream: of a text far beyond the model's window, about how many it has."""
        return await counted(self, request, model, limit_s=limit_s)

    def _target(self, path: str) -> str:
        return path

    def _body(self, request: GenerationRequest, model: str, call: Call) -> bytes:
        body = {**request.raw, "model": model}
        if call.continuation is not None:
            body[CONTINUE_TEXT] = call.continuation.text
        if request.stream:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        return orjson.dumps(body)

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        retry_after = headers.get("retry-after", "")
        after_s = float(retry_after) if retry_after.isdecimal() else None
        return relayed(status, body, after_s, upstream=self.name) or self.broken("The engine's answer is malformed.")

    def _error_in_answer(self, error: Any) -> UpstreamError:
        body = orjson.dumps({"error": error})
        return relayed(502, body, None, upstream=self.name) or self.broken("The engine's answer is malformed.")


def _is_one(request: GenerationRequest) -> bool:
    """Whether one answer is asked for, and nothing of the prompt with it."""
    if isinstance(request, CompletionRequest) and (request.echo or len(request.prompts) > 1):
        return False
    return request.sampling.n == 1


def _named(model: str | None) -> dict[str, str]:
    return {} if model is None else {"model": model}
