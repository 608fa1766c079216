"""Reads an answer as it comes: when its pieces of text came, what it says of tokens, cache and cost. No I/O."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from genkan.bench.client.outcome import Seen
from genkan.wire.sse import DONE_DATA, EventTooLarge, SseDecoder

_MAX_BODY_BYTES = 64 << 20
_MAX_KIND = 80  # characters of an error's kind
_TEXTS = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")


class Reading:
    """One answer into one Seen. Give it the head, then the body in pieces, then its end."""

    __slots__ = ("_body", "_decoder", "_done", "_seen", "_streams")

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._streams = False
        self._decoder = SseDecoder()
        self._body = bytearray()
        self._done = False

    def head(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Names in lower case; unknown ones are passed over. Raises ValueError for a cost that is no number."""
        self._seen.status = status
        self._seen.cache = headers.get(b"x-genkan-cache", b"").decode("latin-1")
        self._streams = status == 200 and headers.get(b"content-type", b"").startswith(b"text/event-stream")
        if cost := headers.get(b"x-genkan-cost-usd"):
            self._seen.cost_usd = _finite(float(cost))

    def body(self, data: bytes, now_s: float) -> None:
        """A piece of the body that came ``now_s``. Raises ValueError for what is no answer."""
        if not self._streams:
            self._body += data
            if len(self._body) > _MAX_BODY_BYTES:
                raise ValueError("a body of more than 64 MiB")
            return
        try:
            events = self._decoder.feed(data)
        except EventTooLarge:
            raise ValueError("an event of more than 1 MiB") from None
        for event in events:
            self._event(event, now_s)

    def end(self, now_s: float) -> None:
        """The body is complete: what a whole answer says, or what is missing. Raises ValueError as ``body`` does."""
        self._seen.ended_s = now_s
        if self._seen.status != 200:
            self._seen.error = f"status {self._seen.status}{_kind(self._body)}"
        elif not self._streams:
            answer = self.whole()
            if answer.get("error") is not None:
                self._seen.error = f"an error with status 200{_kind(self._body)}"
            self._usage(answer)
            self._cost(answer)  # as `POST /call` has it
        elif self._seen.error is None and not self._done:
            self._seen.error = "a stream without its end"

    def whole(self) -> dict[str, Any]:
        """The object that the body is. Raises ValueError when it is none."""
        return _object(bytes(self._body))

    def message(self) -> str:
        """What an error body says to people, shortened; empty where it says nothing."""
        found = _error(bytes(self._body))
        return str(found.get("message", ""))[:300] if found else self._body[:200].decode(errors="replace")

    def _event(self, data: bytes, now_s: float) -> None:
        if data == DONE_DATA:
            self._done = True
            return
        chunk = _object(data)
        if chunk.get("error") is not None:  # some servers send null with every chunk
            self._seen.error = f"error event{_kind(data)}"
            return
        choices = chunk.get("choices")
        if isinstance(choices, list) and any(map(_has_text, choices)):
            self._seen.token_s.append(now_s)
        self._usage(chunk)

    def _usage(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details")
        seen = self._seen
        seen.prompt_tokens = _count(usage, "prompt_tokens")
        seen.completion_tokens = _count(usage, "completion_tokens")
        seen.cached_tokens = (_count(details, "cached_tokens") or 0) if isinstance(details, dict) else 0
        self._cost(usage)

    def _cost(self, of: dict[str, Any]) -> None:
        if isinstance(cost := of.get("cost_usd"), int | float) and not isinstance(cost, bool):
            self._seen.cost_usd = float(cost)


def _has_text(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    return bool(choice.get("text")) or (isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS))


def _count(of: dict[str, Any], name: str) -> int | None:
    """A number of tokens; None for what is none."""
    found = of.get(name)
    return found if type(found) is int and found >= 0 else None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a cost that is no number")
    return value


def _object(data: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(data)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("an answer that is no JSON object")
    return parsed


def _error(data: bytes) -> dict[str, Any]:
    """The error object of an error's body; empty when there is none."""
    try:
        found = orjson.loads(data).get("error")
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {"message": str(found)} if found else {}


def _kind(data: bytes | bytearray) -> str:
    found = _error(bytes(data))
    kind = found.get("code") or found.get("type")
    return f" {kind}"[:_MAX_KIND] if kind else ""
