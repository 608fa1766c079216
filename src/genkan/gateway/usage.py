"""Counts the tokens of an answer as its bytes pass, and hides from a client what only we asked for.

The gateway always asks its upstream for usage, because every request is accounted. JSON is parsed only where usage
stands: once for a whole body, and for the one chunk of a stream that carries it.
"""

from collections.abc import AsyncGenerator
from typing import Any

import orjson

from genkan.upstream.base import Answer

_USAGE_OBJECT = b'"usage":{'
_USAGE_NULL = b',"usage":null'
_NO_CHOICES = b'"choices":[]'


def count_usage(answer: Answer, *, visible: bool) -> None:
    """Have ``answer.usage`` filled: at once for a whole body, else when the stream's usage passes.

    Unless ``visible``, the stream loses the usage that the client did not ask for.
    """
    if answer.body is not None:
        answer.usage = _usage_in(answer.body)
    elif answer.events is not None:
        answer.on_close(answer.events.aclose)
        answer.events = _counted(answer, answer.events, visible)


async def _counted(answer: Answer, events: AsyncGenerator[bytes, None], visible: bool) -> AsyncGenerator[bytes, None]:
    async for data in events:
        if _USAGE_OBJECT in data:
            answer.usage = _usage_in(data)
            if not visible and _NO_CHOICES in data:
                continue
        if not visible and _USAGE_NULL in data:
            # Quotes inside a JSON string are escaped, so these bytes are a key wherever they stand.
            data = data.replace(_USAGE_NULL, b"")
        yield data


def _usage_in(data: bytes) -> dict[str, Any] | None:
    try:
        usage = orjson.loads(data).get("usage")
    except (ValueError, AttributeError):
        return None
    return usage if isinstance(usage, dict) else None
