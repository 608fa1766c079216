"""What upstreams answer, whole and in chunks: read just enough to know that it is an answer. No I/O.

Theory. A gateway that passes bytes through still has to know four things: whether what comes is an answer at all
(servers send HTML pages, error objects and half a JSON with status 200), whether the client has been given any of it
yet (until then another upstream may be asked), whether it came to its end (a stream that just stops looks complete
to OpenAI's clients), and what it cost (usage, or how much text it was where the upstream does not count). All four need
each chunk's JSON once, and nothing needs it twice.

* A stream is complete when every choice has had its ``finish_reason``, with ``[DONE]`` or without; ``[DONE]`` alone is
  not enough, but it makes do with the choices that had begun.
* It has started with the first thing that is of the answer itself: text, reasoning, a refusal, a tool call, an end.
  The chunk that only says ``"role": "assistant"`` is sent by servers that then think for a minute, or die.
* After a choice's end nothing more of its answer may come. Servers that send an end before the last pieces of text
  have lost the order, and the client its answer. Repeated ends are dropped.
* The last usage counts, but one that is empty or says nothing that can be read does not make up for one that does.

What is passed on is passed as it came, with fields nobody here knows, and what it says is kept, for who may have to go
on with it elsewhere (wire/said.py). Cost: 1 µs a chunk that differs from the one before only in its text, else 2, most
of it parsing.
Source: OpenAI's API reference, "Chat completion chunk" and "Completion".
"""

import sys
from typing import Any

import orjson

from genkan.errors import GenkanError
from genkan.wire.chunk_template import ChunkTemplate
from genkan.wire.pieces import REASONING, TEXT
from genkan.wire.said import Said
from genkan.wire.usage import MAX_TOKENS, Usage

MAX_HELD_BYTES = 1 << 20
MAX_KEPT_BYTES = 4 << 20
_KEPT_BYTES = 256 << 10
_USAGE_NULL = b',"usage":null'
#: Under what names an answer's text stands in its choices, and the objects and lists that hold it.
_TEXTS = frozenset(
    {
        "message", "text", "content", "refusal", "thinking", "audio", "transcript", "tool_calls",
        "function_call", "function", "custom", "name", "arguments", "input",
    }
)  # fmt: skip
_REASONING = frozenset({"reasoning_content", "reasoning"})  # where both are, they are the same text twice
_DEPTH = 8
_NO_OBJECT = "it is not a JSON object"


class MalformedAnswer(GenkanError):
    """Something that is not an answer in OpenAI's shape."""


class ErrorInAnswer(GenkanError):
    """An error object where an answer was due. ``error`` is what stands under its ``error`` key, or all of it."""

    def __init__(self, error: Any) -> None:
        super().__init__("the answer is an error")
        self.error = error


_REASON_CHARS = 40  # of a finish reason; an upstream may have words of its own


class AnswerStream:
    """Follows the chunks of one stream."""

    __slots__ = (
        "_at_least",
        "_begun",
        "_choices",
        "_finished",
        "_keep_bytes",
        "_said",
        "_show_usage",
        "_template",
        "failure",
        "filtered",
        "finish_reason",
        "pieces",
        "started",
        "text_bytes",
        "usage",
    )

    def __init__(self, *, choices: int, show_usage: bool, at_least: int = 1, keep_bytes: int = _KEPT_BYTES) -> None:
        """``choices`` is how many were asked for, of which ``at_least`` may not be missing.

        Without ``show_usage`` the client did not ask for usage. What one choice says is kept in ``said``, up to
        ``keep_bytes`` and never more than `MAX_KEPT_BYTES`; what says more becomes unknown.
        """
        self._choices = choices
        self._show_usage = show_usage
        self._at_least = at_least
        self._keep_bytes = min(keep_bytes, MAX_KEPT_BYTES)
        self._begun = {0}
        self._finished: set[int] = set()
        self._template = ChunkTemplate()
        self.started = False
        self.pieces = 0  # that say something, as they came
        self.text_bytes = 0  # of what they say: text, reasoning, tool calls
        self._said = Said() if choices == 1 and keep_bytes else None
        self.failure: MalformedAnswer | ErrorInAnswer | None = None  # what is wrong after what was passed on
        self.filtered = False  # it ended by the upstream's content filter
        self.finish_reason: str | None = None  # of the choice that ended last
        self.usage: dict[str, Any] | None = None

    @property
    def said(self) -> Said | None:
        """What was passed on, all of it; None where it is not kept. Its ``pieces`` are those up to now."""
        if self._said is None:
            return None
        self._said.pieces = self.pieces
        self._template.forget()
        return self._said.settled()

    @property
    def complete(self) -> bool:
        """Whether every choice that was asked for has come to its end."""
        return len(self._finished) == self._choices

    @property
    def complete_when_done(self) -> bool:
        """Whether it is complete if the upstream says that this is all: some give one choice, whatever is asked for."""
        return self._begun <= self._finished and len(self._finished) >= self._at_least

    def take(self, payloads: list[bytes]) -> list[bytes]:
        """The payloads to pass on, of those that came. Raises MalformedAnswer or ErrorInAnswer.

        When that comes right after more of an answer that has started, what more there is is returned, and ``failure``
        is the error. An answer that has not started fails as a whole: another upstream can still be asked.
        """
        begun, hides_usage = self.started, not self._show_usage
        text_bytes = self._template.text_bytes
        passed: list[bytes] = []
        try:
            for data in payloads:
                if said_bytes := text_bytes(data):
                    self.pieces += 1
                    self.text_bytes += said_bytes
                elif not self._is_wanted(data):
                    continue
                if hides_usage and _USAGE_NULL in data:
                    # Quotes inside a JSON string are escaped, so these bytes are a key wherever they stand.
                    data = data.replace(_USAGE_NULL, b"")
                # A line break between JSON's tokens would become a line of the event stream.
                passed.append(data.replace(b"\n", b" ") if b"\n" in data else data)
        except (MalformedAnswer, ErrorInAnswer) as error:
            if not (begun and passed):
                raise
            self.failure = error
        if self.text_bytes > self._keep_bytes:
            self._stop_keeping()
        return passed

    def _stop_keeping(self) -> None:
        if self._said is not None:
            self._said.forget()
            self._template.forget()  # which would keep more
        self._keep_bytes = sys.maxsize

    def _is_wanted(self, data: bytes) -> bool:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise _no_json(error) from None
        if self._goes_on(chunk, data):
            return True
        if not self._wanted(chunk):
            return False
        self._keep(chunk)
        return True

    def _keep(self, chunk: dict[str, Any]) -> None:
        """Keep what a chunk says that is passed on."""
        if self._said is not None:
            self._said.note(chunk)
            self._template.forget()  # whose text would stand before it

    def _goes_on(self, chunk: Any, data: bytes) -> bool:
        """Whether it is what nearly all chunks are: more of the only answer. `_wanted` would say the same, later."""
        try:
            (choice,) = chunk["choices"]
            index, delta = choice["index"], choice["delta"]
            text = delta.get("content") or delta.get("reasoning_content")
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        # Nothing in JSON but objects got so far: whatever else stood in their place has no fields to ask for by name.
        if index or type(index) is not int or choice.get("finish_reason") or choice.get("error"):
            return False
        if self._finished or chunk.get("usage") or chunk.get("error"):
            return False
        said = self._said
        if type(text) is str and text and "tool_calls" not in delta:
            self.started = True
            self.pieces += 1
            text_bytes = text.encode()
            self.text_bytes += len(text_bytes)
            is_all = len(delta) == 1
            if said is not None and not (is_all and "content" in delta and said.note_text(choice, text_bytes)):
                self._keep(chunk)
            if is_all or _says_only(text, delta):
                track = TEXT if delta.get("content") else REASONING
                self._template.learn(data, text, None if said is None else said.more(track))
            return True
        if _says_something(choice):
            self.started = True
            self.pieces += 1
            self.text_bytes += _text_bytes(delta)
        self._keep(chunk)
        return True

    def _wanted(self, chunk: Any) -> bool:
        if type(chunk) is not dict:
            raise MalformedAnswer(_NO_OBJECT)
        choices = chunk.get("choices")
        usage = chunk.get("usage")
        if type(usage) is dict and (self.usage is None or _counts(usage) or not _counts(self.usage)):
            self.usage = usage
        if error := chunk.get("error"):
            raise ErrorInAnswer(error)
        if type(choices) is not list:
            if choices is not None:
                raise MalformedAnswer("choices is not a list")
            return usage is not None and self._show_usage  # else a vendor's own event, on which clients crash
        if not choices:
            return usage is None or self._show_usage
        wanted = False
        for choice in choices:
            wanted = self._take_choice(choice) or wanted
        return wanted or (usage is not None and self._show_usage)

    def _take_choice(self, choice: Any) -> bool:
        try:
            index, reason = choice.get("index", 0), choice.get("finish_reason")
            said = _says_something(choice)
        except AttributeError:
            raise MalformedAnswer("a choice is not an object") from None
        if type(index) is not int or not 0 <= index < self._choices:
            raise MalformedAnswer(f"a choice's index is not one of the {self._choices} that were asked for")
        if index in self._finished:
            if said:
                raise MalformedAnswer("text came after the end of its answer")
            return not reason
        if reason == "error" or choice.get("error"):
            raise ErrorInAnswer(choice.get("error") or reason)
        if said:
            self.pieces += 1
            self.text_bytes += _text_bytes(choice.get("delta") or choice.get("text"))
        if reason:
            self._template.forget()
            self._finished.add(index)
            self.filtered = self.filtered or reason == "content_filter"
            self.finish_reason = reason[:_REASON_CHARS] if type(reason) is str else None
            self.started = True
            return True
        self._begun.add(index)
        self.started = self.started or said
        return True


class WholeAnswer:
    """What is known of an answer that came in one piece: its ``usage``, and what ended it."""

    __slots__ = ("filtered", "finish_reason", "object", "usage")

    def __init__(self, body: bytes) -> None:
        """Raises MalformedAnswer or ErrorInAnswer. Cost: one JSON parse."""
        self.object = answer = _object(body)
        choices = answer.get("choices")
        if error := answer.get("error"):
            raise ErrorInAnswer(error)
        if type(choices) is not list or not choices:
            raise MalformedAnswer("an answer has choices")
        self.filtered = False
        for choice in choices:
            if type(choice) is not dict or not (type(choice.get("message")) is dict or type(choice.get("text")) is str):
                raise MalformedAnswer("a choice has a message or a text")
            index = choice.get("index", 0)
            if type(index) is not int or not 0 <= index < len(choices):
                raise MalformedAnswer(f"a choice's index is not one of {len(choices)}")
            reason = choice.get("finish_reason")
            if reason == "error" or choice.get("error"):
                raise ErrorInAnswer(choice.get("error") or reason)
            if reason == "content_filter":
                self.filtered = True
        self.finish_reason: str | None = reason[:_REASON_CHARS] if type(reason) is str else None  # of the last choice
        usage = answer.get("usage")
        self.usage: dict[str, Any] | None = usage if type(usage) is dict else None

    def as_chunks(self, *, show_usage: bool) -> list[bytes]:
        """The same as the chunks of a stream, for a client that asked for one. Raises MalformedAnswer."""
        head = {key: value for key, value in self.object.items() if key not in ("choices", "usage")}
        if head.get("object") == "chat.completion":
            head["object"] = "chat.completion.chunk"
        try:
            return self._chunks(head, show_usage)
        except TypeError:
            raise MalformedAnswer("it is nested too deeply") from None

    def _chunks(self, head: dict[str, Any], show_usage: bool) -> list[bytes]:
        chunks = [orjson.dumps({**head, "choices": [_as_delta(choice) for choice in self.object["choices"]]})]
        if show_usage and self.usage is not None:
            chunks.append(orjson.dumps({**head, "choices": [], "usage": self.usage}))
        return chunks


def text_bytes_of(body: bytes) -> int:
    """How much text a whole answer has in its choices, in bytes of UTF-8; 0 for what is none. Cost: one JSON parse."""
    try:
        return _text_bytes(_object(body).get("choices"))
    except MalformedAnswer:
        return 0


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _no_json(error) from None
    if type(value) is not dict:
        raise MalformedAnswer(_NO_OBJECT)
    return value


def _no_json(error: orjson.JSONDecodeError) -> MalformedAnswer:
    return MalformedAnswer(f"it is not JSON: {error.msg} at character {error.pos}")


def _says_only(text: str, delta: dict[str, Any]) -> bool:
    return all(value is text or not value or key == "role" for key, value in delta.items())


def _says_something(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if delta is None:
        return bool(choice.get("text"))
    # Whatever a provider calls it (content, reasoning_content, refusal, tool_calls), it is of the answer; but for the
    # role, which servers repeat in every chunk.
    for key, value in delta.items():  # noqa: SIM110 - a generator costs more than all of this
        if value and key != "role":
            return True
    return False


def _text_bytes(value: Any, depth: int = _DEPTH) -> int:
    if type(value) is str:
        return len(value) if value.isascii() else len(value.encode())
    if depth == 0:
        return 0
    if type(value) is list:
        return sum(_text_bytes(each, depth - 1) for each in value)
    if type(value) is not dict:
        return 0
    said = reasoned = 0
    for key, each in value.items():
        if each and key in _TEXTS:
            said += _text_bytes(each, depth - 1)
        elif each and key in _REASONING:
            reasoned = max(reasoned, _text_bytes(each, depth - 1))
    return said + reasoned


def _counts(raw: dict[str, Any]) -> bool:
    prompt, completion, total = raw.get("prompt_tokens"), raw.get("completion_tokens"), raw.get("total_tokens")
    if (
        type(prompt) is int
        and type(completion) is int
        and type(total) is int
        and 0 < prompt <= total <= MAX_TOKENS
        and prompt + completion == total
    ):
        return True  # the same as below, at once: some streams have usage in every chunk
    usage = Usage.read(raw)
    return usage is not None and usage.total > 0


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if type(message) is not dict:
        return choice
    message = {key: value for key, value in message.items() if value is not None}
    if calls := message.get("tool_calls"):
        if type(calls) is not list or not all(type(call) is dict for call in calls):
            raise MalformedAnswer("tool_calls is not a list of objects")
        message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return {"delta": message, **{key: value for key, value in choice.items() if key != "message"}}
