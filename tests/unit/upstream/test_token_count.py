"""Asking a server how long a prompt is."""

import json
from typing import Any

import pytest

from genkan.errors import ConnectFailed
from genkan.upstream.token_count import beside_v1, counted
from genkan.wire.chat import ChatRequest, CompletionRequest

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = ChatRequest.from_object(
    {"model": "m", "messages": MESSAGES, "tools": [], "stream": True, "temperature": 0, "continue_text": "Well,"}
)


class Server:
    """Answers every request with the same bytes, or not at all."""

    def __init__(self, answer: bytes | None) -> None:
        self.asked: list[tuple[str, Any, float]] = []
        self._answer = answer

    async def post(self, path: str, body: bytes, *, limit_s: float) -> bytes:
        self.asked.append((path, json.loads(body), limit_s))
        if self._answer is None:
            raise ConnectFailed("nobody is there", upstream="u")
        return self._answer


async def test_what_makes_the_prompt_is_sent_and_the_count_is_taken() -> None:
    server = Server(b'{"count": 17, "max_model_len": 4096, "tokens": [1]}')
    assert await counted(server, CHAT, "there", limit_s=2.5) == 17
    assert server.asked == [("/tokenize", {"messages": MESSAGES, "tools": [], "model": "there"}, 2.5)]


async def test_a_completion_sends_its_prompt() -> None:
    server = Server(b'{"count": 0}')
    request = CompletionRequest.from_object({"model": "m", "prompt": "Once", "max_tokens": 5})
    assert await counted(server, request, "there", limit_s=1) == 0
    assert server.asked[0][1] == {"prompt": "Once", "model": "there"}


async def test_ids_are_counted_here() -> None:
    server = Server(None)
    request = CompletionRequest.from_object({"model": "m", "prompt": [[1, 2], [3]]})
    assert await counted(server, request, "there", limit_s=1) == 3
    assert not server.asked


@pytest.mark.parametrize(
    "answer", [None, b"", b"<html>", b"[]", b"{}", b'{"count": "17"}', b'{"count": true}', b'{"count": -1}']
)
async def test_a_server_that_does_not_say_is_no_error(answer: bytes | None) -> None:
    assert await counted(Server(answer), CHAT, "there", limit_s=1) is None


@pytest.mark.parametrize(
    ("base_path", "path"),
    [
        ("/v1", "/tokenize"),
        ("/v1/", "/tokenize"),
        ("", "/tokenize"),
        ("/llm/v1", "/llm/tokenize"),
        ("/llm", "/llm/tokenize"),
    ],
)
def test_it_lies_beside_openais_api(base_path: str, path: str) -> None:
    assert beside_v1(base_path) == path
