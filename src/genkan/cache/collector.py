"""From what an upstream answers to one plain text, while it passes. No I/O.

An answer can be given again only if all of it is known, so all of it is looked at: what is not text, reasoning, the
end, usage, or one of the few fields that say how it was served and not what, makes it something else. Then nothing of
it is kept. A provider's own field beside the choices, such as a list of sources, is kept as it came if it says the same
in every chunk; within a choice it makes the answer something else.

Cost: 0.6 µs a chunk that differs from the one before only in its text, else 4, most of it parsing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.usage import Usage

MAX_BYTES = 4 << 20

#: How it was served; nothing of the answer. A value that says nothing is as if its field were not there, for all.
_ABOUT_SERVING = frozenset(
    {
        "created", "id", "metrics", "obfuscation", "object", "prompt_filter_results", "provider", "request_id",
        "service_tier", "stats", "time_info", "timings", "x_groq",
    }
)  # fmt: skip
_MOST_BESIDES_BYTES = 16 << 10
_READ = frozenset({"choices", "model", "system_fingerprint", "usage"})
_NAMED = _READ | _ABOUT_SERVING
_OF_A_CHOICE = frozenset(
    {"content_filter_results", "delta", "finish_reason", "index", "matched_stop", "message", "native_finish_reason"}
    | {"stop_reason", "text"}
)
_REASONING = ("reasoning_content", "reasoning")
_OF_A_DELTA = frozenset({"content", "role", *_REASONING})
_ENDS = frozenset({"stop", "length"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One plain text, whole."""

    text: str
    reasoning: str
    reasoning_name: str  # see StoredAnswer
    finish_reason: str  # stop or length
    model: str
    fingerprint: str | None
    usage: Usage | None  # None: it did not say
    created_s: int
    besides: dict[str, Any] = field(default_factory=dict)  # fields that nobody here knows, beside the choices


class AnswerCollector:
    """Follows one answer, a stream's chunks or a whole body."""

    def __init__(self, request: GenerationRequest, *, max_bytes: int = MAX_BYTES) -> None:
        """An answer with more than ``max_bytes`` of text is not one that can be stored."""
        self._is_chat = isinstance(request, ChatRequest)
        self._room_bytes = max_bytes
        self._is_other = request.sampling.n != 1
        self._text: list[bytes] = []
        self._reasoning: list[bytes] = []
        self._reasoning_name = ""
        self._finish_reason = ""
        self._model = ""
        self._fingerprint: str | None = None
        self._created_s = 0
        self._besides: dict[str, Any] | None = None  # until something has come
        self._usage: Usage | None = None
        self._forget()

    def take(self, payloads: list[bytes]) -> None:
        """The next chunks, as an AnswerStream passes them on: each is a JSON object."""
        if self._is_other:
            return
        before, after, shortest = self._before, self._after, self._shortest
        for data in payloads:
            if len(data) >= shortest and data.startswith(before) and data.endswith(after):
                text = data[len(before) : -len(after)]
                if b'"' not in text and b"\\" not in text:  # so it is all of the string that stands there
                    self._pieces.append(text)
                    self._room_bytes -= len(text)
                    continue
            self._read(data)
            before, after, shortest = self._before, self._after, self._shortest
        if self._room_bytes < 0:
            self._drop()

    def whole(self, body: bytes) -> None:
        """All of an answer that did not come as a stream."""
        self._read(body)
        if self._room_bytes < 0:
            self._drop()

    def result(self, usage: object = None) -> Collected | None:
        """The answer, if it came to its end and is one plain text.

        ``usage`` is the upstream's, as in ``Answer.usage``, for streams whose client was not to see it.
        """
        if self._is_other or not self._finish_reason:
            return None
        try:
            text, reasoning = b"".join(self._text).decode(), b"".join(self._reasoning).decode()
        except UnicodeDecodeError:
            return None
        return Collected(
            text=text,
            reasoning=reasoning,
            reasoning_name=self._reasoning_name,
            finish_reason=self._finish_reason,
            model=self._model,
            fingerprint=self._fingerprint,
            usage=self._usage or Usage.read(usage),
            created_s=self._created_s,
            besides=self._besides or {},
        )

    def _drop(self) -> None:
        self._is_other = True
        self._text, self._reasoning = [], []

    def _read(self, data: bytes) -> None:
        try:
            self._take(orjson.loads(data), data)
        except (_SomethingElse, orjson.JSONDecodeError):
            self._drop()

    def _take(self, chunk: Any, data: bytes) -> None:
        self._forget()
        if type(chunk) is not dict:
            raise _SomethingElse
        besides = {name: value for name, value in chunk.items() if value and name not in _NAMED}
        if besides != self._besides:
            self._take_besides(besides)
        self._take_head(chunk)
        choices = chunk.get("choices")
        if not choices:
            return
        if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
            raise _SomethingElse
        self._take_choice(choices[0], data)

    def _take_besides(self, besides: dict[str, Any]) -> None:
        if self._besides is not None:
            raise _SomethingElse
        self._besides = besides
        if besides:
            try:
                n_bytes = len(orjson.dumps([besides]))  # as deep as it would be stored
            except TypeError:  # nested deeper than can be written
                raise _SomethingElse from None
            self._room_bytes -= n_bytes
            if n_bytes > _MOST_BESIDES_BYTES:
                raise _SomethingElse

    def _take_head(self, chunk: Mapping[str, Any]) -> None:
        if not self._model and type(model := chunk.get("model")) is str:
            self._model = model
        if type(fingerprint := chunk.get("system_fingerprint")) is str:
            self._fingerprint = fingerprint
        if not self._created_s and type(created_s := chunk.get("created")) is int and created_s >= 0:
            self._created_s = created_s
        if usage := chunk.get("usage"):
            self._usage = Usage.read(usage) or self._usage

    def _take_choice(self, choice: dict[str, Any], data: bytes) -> None:
        for name, value in choice.items():
            if name not in _OF_A_CHOICE and value:
                raise _SomethingElse
        if choice.get("index", 0) != 0 or choice.get("logprobs") is not None:
            raise _SomethingElse
        delta, text = choice.get("delta") or choice.get("message"), choice.get("text")
        if text if self._is_chat else delta:
            raise _SomethingElse
        if self._is_chat:
            self._take_delta(delta or {}, data)
        else:
            self._say(text, self._text, "text", data)
        if reason := choice.get("finish_reason"):
            if type(reason) is not str or reason not in _ENDS or self._finish_reason not in ("", reason):
                raise _SomethingElse
            self._finish_reason = reason
            self._forget()

    def _take_delta(self, delta: Any, data: bytes) -> None:
        if type(delta) is not dict or delta.get("role") not in (None, "", "assistant"):
            raise _SomethingElse
        for name, value in delta.items():
            if value and name not in _OF_A_DELTA:
                raise _SomethingElse
        names = [name for name in _REASONING if delta.get(name)]
        content = delta.get("content")
        if names:
            self._reason(delta, names, data if not content else b"")
        if content or not names:
            self._say(content, self._text, "content", data if not names else b"")

    def _reason(self, delta: Mapping[str, Any], names: list[str], data: bytes) -> None:
        """What it says before its answer; two names for the same are one."""
        name = "+".join(names)
        if (
            self._reasoning_name not in ("", name)
            or any(delta[each] != delta[names[0]] for each in names)
            or self._text
        ):
            raise _SomethingElse
        self._reasoning_name = name
        self._say(delta[names[0]], self._reasoning, names[0], data if len(names) == 1 else b"")

    def _say(self, text: Any, pieces: list[bytes], name: str, data: bytes) -> None:
        if not text and (text is None or type(text) is str):
            return
        if type(text) is not str or self._finish_reason:
            raise _SomethingElse
        said = text.encode()
        pieces.append(said)
        self._room_bytes -= len(said)
        self._learn(data, said, name, pieces)

    # the chunk that came last, with a hole where its text was

    def _forget(self) -> None:
        self._before = self._after = b""
        self._shortest = 1 << 62
        self._pieces: list[bytes] = []

    def _learn(self, data: bytes, said: bytes, name: str, pieces: list[bytes]) -> None:
        quoted = b'"%b"' % said
        before, found, after = data.partition(quoted)
        # Written otherwise than as it is, or there twice, it is not known where it stands.
        if found and quoted not in after and before.rstrip().endswith(b'"%b":' % name.encode()):
            self._before, self._after, self._pieces = before + b'"', b'"' + after, pieces
            self._shortest = len(self._before) + len(self._after)


class _SomethingElse(Exception):
    """It is more, or other, than one plain text."""
