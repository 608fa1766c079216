"""What was asked and answered, for the log of a route that has asked for that: redacted, and bounded."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from genkan.telemetry.redaction import MAX_CHARS, redacted, redacted_end
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

_KEPT_CHARS = 2 * MAX_CHARS  # of an answer, before it is redacted


class ContentLog:
    """Notes the texts of one request in the fields of its line: ``prompt`` and ``answer``."""

    def __init__(self, fields: dict[str, object], request: GenerationRequest) -> None:
        self._fields = fields
        self._said: list[str] = []
        self._said_chars = 0
        fields["prompt"] = redacted_end(_asked(request))

    def follow(self, answer: Answer) -> None:
        """Note what ``answer`` says, as far as it comes."""
        if answer.body is not None:
            self._take(answer.body)
            self._note()
        elif answer.batches is not None:
            inner, answer.batches = answer.batches, self._followed(answer.batches)
            answer.on_close(inner.aclose)

    async def _followed(self, batches: AsyncGenerator[list[bytes], None]) -> AsyncGenerator[list[bytes], None]:
        try:
            async with aclosing(batches):
                async for batch in batches:
                    for payload in batch:
                        self._take(payload)
                    yield batch
        finally:
            self._note()

    def _take(self, payload: bytes) -> None:
        if self._said_chars < _KEPT_CHARS:
            for text in _texts(payload):
                self._said.append(text[:_KEPT_CHARS])
                self._said_chars += len(text)

    def _note(self) -> None:
        self._fields["answer"] = redacted("".join(self._said))


def _asked(request: GenerationRequest) -> str:
    """All of the conversation that is text."""
    if isinstance(request, CompletionRequest):
        return "\n".join(prompt for prompt in request.prompts if isinstance(prompt, str))
    assert isinstance(request, ChatRequest)
    return "\n".join(f"{message.get('role')}: {_text(message.get('content'))}" for message in request.messages)


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _texts(payload: bytes) -> Iterator[str]:
    """What the first choice of a body or of a chunk says."""
    try:
        parsed: Any = orjson.loads(payload)
    except ValueError:
        return
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping) and choice.get("index") in (None, 0):
            message = choice.get("message") or choice.get("delta")
            yield _text(message.get("content") if isinstance(message, dict) else choice.get("text"))
