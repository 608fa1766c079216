"""A stored answer as the client asked for it: a body, or the chunks of a stream. No I/O.

What it cost its first client is not what it costs this one: all of its prompt counts as cached, and it is free.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from genkan.cache.stored_answer import StoredAnswer
from genkan.wire.usage import Usage

_BATCH = 16  # pieces that are sent together
_LONGEST = 24  # characters of a word that is not parted
_PIECE = re.compile(rf"\s*\S{{1,{_LONGEST}}}(?!\S)|\s*\S+|\s+")
_JOINERS = frozenset("\u200d\ufe0f\ufe0e")
_NULL_USAGE = b',"usage":null'


def body(answer: StoredAnswer, request_id: str, *, is_hit: bool = True) -> bytes:
    """A ``chat.completion`` or ``text_completion``; ``request_id`` makes its id. Cost: about 3 µs.

    Not ``is_hit``, its usage is as it was counted: the answer is new, and only changes its form.
    """
    whole = _head(answer, request_id, streamed=False)
    if answer.is_chat:
        message = {"role": "assistant", "content": answer.text, "refusal": None, **_reasoning(answer, answer.reasoning)}
        choice: dict[str, Any] = {"index": 0, "message": message}
    else:
        choice = {"index": 0, "text": answer.text}
    whole["choices"] = [{**choice, "logprobs": None, "finish_reason": answer.finish_reason}]
    if answer.usage is not None:
        whole["usage"] = _usage(answer.usage, is_hit)
    return orjson.dumps(whole)


def chunks(answer: StoredAnswer, request_id: str, *, include_usage: bool, is_hit: bool = True) -> Iterator[list[bytes]]:
    """The batches of a stream's payloads, without ``[DONE]``: a word each, and some words a batch.

    Made as they are taken, as a long answer takes many milliseconds. Cost: about 0.6 µs a word.
    """
    payloads = _payloads(answer, request_id, include_usage, is_hit)
    while batch := list(islice(payloads, _BATCH)):
        yield batch


def _payloads(answer: StoredAnswer, request_id: str, include_usage: bool, is_hit: bool) -> Iterator[bytes]:
    head = orjson.dumps(_head(answer, request_id, streamed=True))[:-1]
    tail = _NULL_USAGE + b"}" if include_usage else b"}"
    if answer.is_chat:
        delta = b'{"role":"assistant","content":""}'
        yield b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]%b' % (head, delta, tail)
    yield from _said(answer, head, tail)
    end = b'%b,"choices":[{"index":0,%b,"logprobs":null,"finish_reason":"%b"}]%b'
    yield end % (head, b'"delta":{}' if answer.is_chat else b'"text":""', answer.finish_reason.encode(), tail)
    if include_usage and answer.usage is not None:
        yield b'%b,"choices":[],"usage":%b}' % (head, orjson.dumps(_usage(answer.usage, is_hit)))


def usage(answer: StoredAnswer) -> dict[str, Any] | None:
    """What the answer says of its tokens as a hit."""
    return None if answer.usage is None else _usage(answer.usage, is_hit=True)


def pieces(text: str) -> Iterator[str]:
    """``text`` in words, each with the space before it; what has no spaces for long is parted between characters.

    Joined they are ``text``. What a reader sees as one character is in one piece: a letter with its marks, an emoji.
    """
    for found in _PIECE.finditer(text):
        piece = found[0]
        if len(piece) <= _LONGEST:
            yield piece
        else:
            yield from _parted(piece)


def _parted(piece: str) -> Iterator[str]:
    begin = 0
    while len(piece) - begin > _LONGEST:
        end = begin + _LONGEST
        while end < len(piece) and _is_one(piece[end - 1], piece[end]):
            end += 1
        yield piece[begin:end]
        begin = end
    if begin < len(piece):
        yield piece[begin:]


def _is_one(left: str, right: str) -> bool:
    """Whether a reader may see both as parts of one character. More often said than so: a flag's letters, any two."""
    return (
        right in _JOINERS
        or left == "\u200d"
        or unicodedata.category(right)[0] == "M"
        or "\U0001f3fb" <= right <= "\U0001f3ff"  # the colour of a skin
        or "\U0001f1e6" <= right <= "\U0001f1ff"  # half of a flag
        or "\u1160" <= right <= "\u11ff"  # vowels and ends of a Korean syllable that is not composed
        or (left, right) == ("\r", "\n")
    )


def _head(answer: StoredAnswer, request_id: str, *, streamed: bool) -> dict[str, Any]:
    if answer.is_chat:
        kind, prefix = "chat.completion.chunk" if streamed else "chat.completion", "chatcmpl"
    else:
        kind, prefix = "text_completion", "cmpl"
    own_id = f"{prefix}-{request_id.removeprefix('req_')}"
    head = {"id": own_id, "object": kind, "created": answer.created_s, "model": answer.model}
    if answer.fingerprint is not None:
        head["system_fingerprint"] = answer.fingerprint
    return head | answer.besides


def _reasoning(answer: StoredAnswer, text: str) -> dict[str, str]:
    return dict.fromkeys(answer.reasoning_name.split("+"), text) if text else {}


def _said(answer: StoredAnswer, head: bytes, tail: bytes) -> Iterator[bytes]:
    dumps = orjson.dumps
    if not answer.is_chat:
        before = head + b',"choices":[{"index":0,"text":'
        after = b',"logprobs":null,"finish_reason":null}]' + tail
        for piece in pieces(answer.text):
            yield b"".join((before, dumps(piece), after))
        return
    before = head + b',"choices":[{"index":0,"delta":'
    after = b',"logprobs":null,"finish_reason":null}]' + tail
    for piece in pieces(answer.reasoning):
        yield before + dumps(_reasoning(answer, piece)) + after
    before += b'{"content":'
    after = b"}" + after
    for piece in pieces(answer.text):
        yield b"".join((before, dumps(piece), after))


def _usage(usage: Usage, is_hit: bool) -> dict[str, Any]:
    cached = usage.prompt if is_hit else usage.cached
    shown: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "cached_tokens": cached,
    }
    if is_hit:
        shown |= {"cached": True, "cost_usd": 0.0}
    return shown
