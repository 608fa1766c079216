"""How a prompt begins, as a few bytes that are the same for every turn of one chat. Pure.

Theory. A prefix cache finds what two prompts have in common from their first token on. A prompt as templates render it
is tools, system prompt, then the turns, and each request of a chat repeats all before it. So what names a chat is how
it begins, up to and including the first message of its user: more would change from turn to turn, and less, the system
prompt alone, would send all chats under a popular one to the same place. That is right only where system prompts are
many and none is popular, and requests are single: then what comes before the user's message may decide alone.

Only so many bytes of what comes before that message count, and as many of the message itself. Both have to: a system
prompt is often longer than any sensible bound and would leave nothing else; and of a document with a question after it,
the document alone should decide. A client that names what its prompts share, by ``prompt_cache_key``, is heard, as by
OpenAI's API.

The gateway does not tokenise and renders nothing: what is hashed are the texts, in the order of a template.
"""

from hashlib import blake2b
from typing import Any, Literal

import orjson

from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

#: What decides: all up to the user's first message, or what comes before it, if anything does.
By = Literal["chat", "system"]

_DIGEST_BYTES = 16
_TOOLS = ("tools", "functions")
_MARK = "cache_control"  # clients move it on from turn to turn, and it is no part of the prompt


def prompt_start(request: GenerationRequest, tenant: str, max_bytes: int, by: By = "chat") -> bytes:
    """16 bytes, equal for requests of ``tenant`` that may share a cached prefix and begin alike.

    At most ``max_bytes`` are read of all before the user's first message, and as many of that one; of a prompt without
    messages, so many of the first one. Cost: 2 µs, and 1 µs a KB that is read, but a tool is
    written whole.
    """
    pieces = [_cut(tenant, max_bytes), _cut(request.cache_salt or "", max_bytes)]
    if type(name := request.raw.get("prompt_cache_key")) is str:
        pieces.append(_cut(name, max_bytes))
    if isinstance(request, ChatRequest):
        _add_chat(pieces, request, max_bytes, by)
    elif isinstance(request, CompletionRequest):
        pieces.append(_cut_prompt(request.prompts[0], max_bytes))
    return blake2b(b"\0".join(pieces), digest_size=_DIGEST_BYTES).digest()


def _add_chat(pieces: list[bytes], request: ChatRequest, max_bytes: int, by: By) -> None:
    left, before = max_bytes, len(pieces)
    for name in _TOOLS:
        if type(tools := request.raw.get(name)) is list:
            left = _add_tools(pieces, tools, left)
    for message in request.messages:
        role = message["role"]
        if role == "user":
            if by == "system" and len(pieces) > before:
                return
            left = max_bytes
        elif left <= 0:
            continue
        piece = _cut_content(message.get("content"), left)
        left -= len(piece) + len(role)
        pieces += (role.encode(), piece)
        if role == "user":
            return


def _add_tools(pieces: list[bytes], tools: list[Any], left: int) -> int:
    """How much is left after them. A tool is written whole and then cut, one after the other."""
    for tool in tools:
        if left <= 0:
            break
        piece = _json(tool)[:left]
        left -= len(piece)
        pieces.append(piece)
    return left


def _cut_content(content: Any, left: int) -> bytes:
    if type(content) is str:
        return _cut(content, left)
    if type(content) is not list:
        return b""
    pieces: list[bytes] = []
    for part in content:
        if left <= 0:
            break
        piece = _cut_part(part, left)
        left -= len(piece) + 1
        pieces.append(piece)
    return b"\0".join(pieces)


def _cut_part(part: dict[str, Any], left: int) -> bytes:
    """A text as if it were all of the content. Of an image, which may be megabytes, the beginning of what names it."""
    if part.get("type") == "text" and type(text := part.get("text")) is str:
        return _cut(text, left)
    pieces: list[bytes] = []
    for name, value in part.items():
        if name == _MARK:
            continue
        for one in value.values() if type(value) is dict else (value,):
            if left <= 0:
                return b"\0".join(pieces)
            piece = _cut(one, left) if type(one) is str else b""
            left -= len(piece) + 1
            pieces.append(piece)
    return b"\0".join(pieces)


def _cut_prompt(prompt: str | list[int], left: int) -> bytes:
    return _cut(prompt, left) if isinstance(prompt, str) else repr(prompt[:left]).encode()[:left]


def _cut(text: str, left: int) -> bytes:
    return text[:left].encode("utf-8", "surrogatepass")[:left] if left > 0 else b""


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # nested deeper than can be written: its upstream will not see it either
        return b""
