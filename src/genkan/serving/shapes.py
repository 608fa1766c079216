"""OpenAI's response objects, as bytes.

The parts of a chunk that are the same for a whole stream are written once; a token costs one small JSON string.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import orjson

from genkan.serving.logprobs import TokenWords
from genkan.serving.pieces import Call, Piece, Scored, Usage, WholeAnswer
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta

_NULL = b"null"
_MOST_NAMES = 2000  # of tokens in one chunk's log probabilities: the gateway reads events of 1 MiB


class Shape(Protocol):
    """How one request's answers are written."""

    def chunks(self, piece: Piece) -> list[bytes]:
        """The chunks of a stream that say it, one at least."""

    def usage(self, usage: Usage) -> bytes:
        """The chunk that ends a stream whose usage was asked for."""

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> bytes:
        """All of it as one object."""


class ChatShape:
    """``chat.completion`` and ``chat.completion.chunk``. For one stream at a time: it knows whose has begun."""

    def __init__(self, identity: dict[str, Any], words: TokenWords, *, usage_in_chunks: bool) -> None:
        """``identity`` is what every object of one answer repeats: id, created, model, system_fingerprint."""
        self._identity = identity
        self._words = words
        self._chunk = _Chunk({"object": "chat.completion.chunk", **identity}, usage_in_chunks)
        self._begun: set[int] = set()

    def chunks(self, piece: Piece) -> list[bytes]:
        """As OpenAI's: each answer begins with its role, each call with its name, and ends with a reason alone."""
        index, chunks = piece.answer, []
        if index not in self._begun:
            self._begun.add(index)
            chunks.append(self._chunk.of(index, b'"delta":%b' % _role(piece.deltas)))
        contents = [b'"delta":%b' % _delta(delta) for delta in piece.deltas]
        chunks += self._chunk.said(index, contents, b'"delta":{"content":""}', _parts(piece.scored, self._words.chat))
        if piece.reason is not None:
            chunks.append(self._chunk.of(index, b'"delta":{}', reason=piece.reason))
        return chunks

    def usage(self, usage: Usage) -> bytes:
        return self._chunk.with_usage(usage)

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> bytes:
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return orjson.dumps(
            {"object": "chat.completion", **self._identity, "choices": choices, "usage": usage.as_object()}
        )

    def _choice(self, index: int, answer: WholeAnswer) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = [_call(call) for call in answer.calls]
        logprobs = self._words.chat(answer.scored) if answer.scored else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.reason}


class CompletionShape:
    """``text_completion``, whole and as chunks."""

    def __init__(self, identity: dict[str, Any], words: TokenWords, *, usage_in_chunks: bool) -> None:
        self._identity = {"object": "text_completion", **identity}
        self._words = words
        self._chunk = _Chunk(self._identity, usage_in_chunks)

    def chunks(self, piece: Piece) -> list[bytes]:
        index = piece.answer
        text = "".join(delta.text for delta in piece.deltas if isinstance(delta, TextDelta))
        contents = [b'"text":%b' % orjson.dumps(text)] if text else []
        chunks = self._chunk.said(index, contents, b'"text":""', _parts(piece.scored, self._words.completion))
        if piece.reason is not None:
            chunks.append(self._chunk.of(index, b'"text":""', reason=piece.reason))
        return chunks

    def usage(self, usage: Usage) -> bytes:
        return self._chunk.with_usage(usage)

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> bytes:
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return orjson.dumps({**self._identity, "choices": choices, "usage": usage.as_object()})

    def _choice(self, index: int, answer: WholeAnswer) -> dict[str, Any]:
        logprobs = self._words.completion(answer.scored) if answer.scored else None
        return {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.reason}


class _Chunk:
    """The chunks of one stream."""

    def __init__(self, identity: dict[str, Any], usage_in_chunks: bool) -> None:
        self._head = orjson.dumps(identity)[:-1]
        self._tail = b',"usage":null}' if usage_in_chunks else b"}"

    def of(self, index: int, content: bytes, logprobs: bytes = _NULL, reason: str | None = None) -> bytes:
        finish = _NULL if reason is None else b'"%b"' % reason.encode()
        return b'%b,"choices":[{"index":%d,%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            index,
            content,
            logprobs,
            finish,
            self._tail,
        )

    def said(self, index: int, contents: list[bytes], nothing: bytes, logprobs: list[bytes]) -> list[bytes]:
        """Chunks of ``contents``; the log probabilities go with the first, and where there is none with ``nothing``."""
        if not logprobs:
            return [self.of(index, content) for content in contents]
        first, *more = contents or [nothing]
        chunks = [self.of(index, first, logprobs[0])]
        chunks += [self.of(index, nothing, each) for each in logprobs[1:]]
        return chunks + [self.of(index, content) for content in more]

    def with_usage(self, usage: Usage) -> bytes:
        return b'%b,"choices":[],"usage":%b}' % (self._head, orjson.dumps(usage.as_object()))


def _parts(scored: Sequence[Scored], write: Callable[[Sequence[Scored]], dict[str, Any]]) -> list[bytes]:
    """The log probabilities of ``scored`` in parts that fit a chunk."""
    if not scored:
        return []
    names = max(1 if each.logprobs is None else 1 + len(each.logprobs.top) for each in scored)
    size = max(_MOST_NAMES // names, 1)
    return [orjson.dumps(write(scored[start : start + size])) for start in range(0, len(scored), size)]


def _role(deltas: Sequence[Delta]) -> bytes:
    content = _NULL if deltas and isinstance(deltas[0], CallBegan) else b'""'
    return b'{"role":"assistant","content":%b}' % content


def _delta(delta: Delta) -> bytes:
    if isinstance(delta, TextDelta):
        return b'{"content":%b}' % orjson.dumps(delta.text)
    call: dict[str, Any] = {"index": delta.place}
    if isinstance(delta, CallArguments):
        call["function"] = {"arguments": delta.text}
    else:
        call |= {"id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": ""}}
    return orjson.dumps({"tool_calls": [call]})


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
