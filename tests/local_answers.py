"""Asking a LocalModel whose engine gives chosen tokens, and taking its answers apart."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fakes import WAIT_S, FakeRunner, answering

from genkan.serving.local_model import LocalModel
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

WINDOW = 128
IM_END = 2
USER_HI = {"role": "user", "content": "Hi"}
MakeModel = Callable[..., LocalModel]
Says = Callable[[str], FakeRunner]


def runner_of(answer: list[int], max_model_len: int = WINDOW) -> FakeRunner:
    return FakeRunner(answering(answer), vocab_size=49_152, max_model_len=max_model_len)


def chat(**options: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [USER_HI], **options})


def completion(prompt: Any = "Once", **options: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": prompt, **options})


async def body_of(model: LocalModel, request: GenerationRequest) -> Any:
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(request)
    assert answer.batches is None
    assert answer.body is not None
    await answer.aclose()
    return json.loads(answer.body)


async def chunks_of(model: LocalModel, request: GenerationRequest) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(request)
        return await rest_of(answer)


async def rest_of(answer: Answer) -> list[Any]:
    assert answer.body is None
    assert answer.batches is not None
    try:
        return [json.loads(event) async for batch in answer.batches for event in batch]
    finally:
        await answer.aclose()


def text_of(chunks: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        for chunk in chunks
        for choice in chunk["choices"]
    )


def reason_of(chunks: list[Any]) -> Any:
    """The one finish reason of a stream."""
    (reason,) = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"] is not None]
    return reason
