"""OpenAI's response objects, as bytes.

The parts of a chunk that are the same for a whole stream are written once; a token costs one small JSON string.
"""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; ``cached_tokens`` of the prompt were found in the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def as_object(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "cached_tokens": self.cached_tokens,
        }


class ChatShape:
    """``chat.completion`` and ``chat.completion.chunk``."""

    def __init__(self, identity: dict[str, Any], *, usage_in_chunks: bool) -> None:
        """``identity`` is what every object of one answer repeats: id, created, model, system_fingerprint."""
        self._identity = identity
        self._chunk = _Chunk({"object": "chat.completion.chunk", **identity}, usage_in_chunks)

    def opening(self) -> bytes | None:
        return self._chunk.with_choice({"delta": {"role": "assistant", "content": ""}}, None)

    def text(self, text: str) -> bytes:
        return self._chunk.with_choice({"delta": {"content": text}}, None)

    def closing(self, reason: str) -> bytes:
        return self._chunk.with_choice({"delta": {}}, reason)

    def usage(self, usage: Usage) -> bytes:
        return self._chunk.with_usage(usage)

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return orjson.dumps(
            {"object": "chat.completion", **self._identity, "choices": [choice], "usage": usage.as_object()}
        )


class CompletionShape:
    """``text_completion``, whole and as chunks."""

    def __init__(self, identity: dict[str, Any], *, usage_in_chunks: bool) -> None:
        self._identity = {"object": "text_completion", **identity}
        self._chunk = _Chunk(self._identity, usage_in_chunks)

    def opening(self) -> bytes | None:
        return None

    def text(self, text: str) -> bytes:
        return self._chunk.with_choice({"text": text}, None)

    def closing(self, reason: str) -> bytes:
        return self._chunk.with_choice({"text": ""}, reason)

    def usage(self, usage: Usage) -> bytes:
        return self._chunk.with_usage(usage)

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return orjson.dumps({**self._identity, "choices": [choice], "usage": usage.as_object()})


Shape = ChatShape | CompletionShape


class _Chunk:
    def __init__(self, identity: dict[str, Any], usage_in_chunks: bool) -> None:
        self._head = orjson.dumps(identity)[:-1]
        self._tail = b',"usage":null}' if usage_in_chunks else b"}"

    def with_choice(self, content: dict[str, Any], reason: str | None) -> bytes:
        choice = orjson.dumps({"index": 0, **content, "logprobs": None, "finish_reason": reason})
        return b'%b,"choices":[%b]%b' % (self._head, choice, self._tail)

    def with_usage(self, usage: Usage) -> bytes:
        return b'%b,"choices":[],"usage":%b}' % (self._head, orjson.dumps(usage.as_object()))
