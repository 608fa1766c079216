"""The answer that every healthy call of the fault upstream gives, and that a client must see whole or not at all.

Its text is sixty numbered tokens, so that what was lost, doubled or swapped on the way shows in the text itself.
"""

from dataclasses import dataclass
from typing import Any

import orjson

TOKENS = tuple(f"tok{number:02d} " for number in range(60))
TEXT = "".join(TOKENS)
USAGE: dict[str, Any] = {
    "prompt_tokens": 7,
    "completion_tokens": len(TOKENS),
    "total_tokens": 7 + len(TOKENS),
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
#: No API of ours knows this field. It has to reach the client all the same.
VENDOR = {"kept": True}
DONE = b"[DONE]"
_CREATED_S = 1_760_000_000


@dataclass(frozen=True, slots=True)
class Canonical:
    """The answer in the words of chat completions, or of text completions."""

    model: str
    chat: bool = True
    include_usage: bool = False
    #: What of its usage differs from call to call, where somebody wants to tell calls apart.
    prompt_tokens: int = USAGE["prompt_tokens"]

    def whole(self, *, finish_reason: str = "stop", text: str = TEXT, **message: Any) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        if self.chat:
            said: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, **message}
            choice: dict[str, Any] = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason}
        else:
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        kind = "chat.completion" if self.chat else "text_completion"
        return self._envelope(kind, [choice]) | {"usage": self._used}

    def chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
        """One chunk of a stream. ``delta`` is the chat's; text completions send its content only."""
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}
        return self._chunk([choice])

    def opening(self) -> list[dict[str, Any]]:
        """The role chunk, which text completions do not have."""
        return [self.chunk({"role": "assistant", "content": "", "refusal": None})] if self.chat else []

    def tokens(self, first: int = 0, last: int = len(TOKENS)) -> list[dict[str, Any]]:
        """One chunk a token, from ``first`` up to but not with ``last``."""
        return [self.chunk({"content": token}) for token in TOKENS[first:last]]

    def finish(self, reason: str = "stop") -> dict[str, Any]:
        return self.chunk({}, finish_reason=reason)

    def usage(self) -> list[dict[str, Any]]:
        """The chunk without choices, for those who asked for it."""
        return self.usage_chunk(self._used)

    def usage_chunk(self, usage: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The same with another usage in it."""
        return [self._chunk([]) | {"usage": usage}] if self.include_usage else []

    def chunks(self) -> list[dict[str, Any]]:
        """The whole stream but its ``[DONE]``."""
        return [*self.opening(), *self.tokens(), self.finish(), *self.usage()]

    def payloads(self) -> list[bytes]:
        """The whole stream with its ``[DONE]``, one item an event."""
        return [*map(orjson.dumps, self.chunks()), DONE]

    @property
    def _used(self) -> dict[str, Any]:
        total = self.prompt_tokens + USAGE["completion_tokens"]
        return USAGE | {"prompt_tokens": self.prompt_tokens, "total_tokens": total}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        envelope = self._envelope("chat.completion.chunk" if self.chat else "text_completion", choices)
        return envelope | ({"usage": None} if self.include_usage else {})

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-fault" if self.chat else "cmpl-fault",
            "object": kind,
            "created": _CREATED_S,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_fault",
            "choices": choices,
            "x_vendor": VENDOR,
        }


def event(payload: bytes) -> bytes:
    """One event of a stream as OpenAI writes it."""
    return b"data: %b\n\n" % payload


def error_body(message: str, kind: str, *, code: str | int | None = None, param: str | None = None) -> bytes:
    """An error as OpenAI writes it, in a body or in an event."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
