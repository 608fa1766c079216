"""``POST /tokenize`` over HTTP."""

import json

import pytest
from asgi import AsgiClient

from genkan.api.routes import Api
from genkan.api.tokenize import TokenizeEndpoint
from genkan.config import ServerConfig
from genkan.errors import EngineUnavailable
from genkan.upstream.token_count import TokenCount
from genkan.wire.chat import ChatRequest, GenerationRequest

pytestmark = pytest.mark.anyio


class Models:
    """Count a chat's messages, and know nothing of completions."""

    async def count_tokens(self, request: GenerationRequest) -> TokenCount:
        if not isinstance(request, ChatRequest):
            raise EngineUnavailable("The engine is loading.")
        return TokenCount(len(request.messages), 99)


async def ask(body: object) -> AsgiClient:
    app = Api({"/tokenize": {"POST": TokenizeEndpoint(Models(), ServerConfig(max_body_bytes=1024))}}, lambda _: None)
    return await AsgiClient(app).request("POST", "/tokenize", [json.dumps(body).encode()])


async def test_says_how_long_a_chats_prompt_is_and_the_window() -> None:
    client = await ask({"model": "m", "messages": [{"role": "user", "content": "Hi"}] * 3})
    assert (client.status, json.loads(client.body)) == (200, {"count": 3, "max_model_len": 99})


async def test_a_body_without_messages_is_a_completions() -> None:
    client = await ask({"model": "m", "prompt": "Once"})
    assert (client.status, client.error["message"]) == (503, "The engine is loading.")
    assert (await ask({"model": "m"})).error["param"] == "prompt"


async def test_what_is_too_large_is_not_read() -> None:
    assert (await ask({"model": "m", "prompt": "x" * 2000})).status == 413
