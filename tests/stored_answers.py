"""Stored answers and scopes, for tests."""

from typing import Any

import orjson

from genkan.cache.scope import Scope, Scopes
from genkan.cache.stored_answer import StoredAnswer
from genkan.wire.chat import ChatRequest, CompletionRequest
from genkan.wire.usage import Usage

SECRET = b"s" * 32
_SCOPES = Scopes(SECRET)


def chat(text: str = "Where is my order?", **options: Any) -> ChatRequest:
    """A chat of one message of a user's; ``options`` replace and add to its fields."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **options}
    return ChatRequest.parse(orjson.dumps(body))


def completion(prompt: Any = "Once upon", **options: Any) -> CompletionRequest:
    return CompletionRequest.parse(orjson.dumps({"model": "m", "prompt": prompt, **options}))


def scope_of(
    request: ChatRequest | CompletionRequest,
    *,
    tenant: str = "a",
    route: str = "r",
    models: bytes = b"m@u",
    normalised: bool = True,
    per_user: bool = False,
) -> Scope:
    return _SCOPES.of(request, tenant=tenant, route=route, models=models, normalised=normalised, per_user=per_user)


def stored(scope: Scope | None = None, **fields: Any) -> StoredAnswer:
    """An answer to the request with that scope, good until 2100."""
    scope = scope or scope_of(chat())
    given: dict[str, Any] = {
        "is_chat": True,
        "text": "It is on its way.",
        "model": "gpt-x",
        "usage": Usage(12, 5, 4),
        "created_s": 1_700_000_000,
        "deployment": "m@u",
        "question": scope.text or "",
        "partition": scope.partition,
        "exact": scope.exact,
        "key": scope.key,
        "stored_s": 1_700_000_000.5,
        "expires_s": 4.1e9,
    }
    return StoredAnswer(**{**given, **fields})
