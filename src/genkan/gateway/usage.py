"""Counts the tokens of an answer as its bytes pass, and hides from a client what only we asked for.

The gateway always asks its upstream for usage, because every request is accounted. JSON is parsed only where usage
stands: once for a whole body, and for the one chunk of a stream that carries it.
"""

from collections.abc import AsyncGenerator
from typing import Any

import orjson

_USAGE_OBJECT = b'"usage":{'
_USAGE_NULL = b',"usage":null'
_NO_CHOICES = b'"choices":[]'


class UsageMeter:
    """Reads ``usage`` out of one answer; None until it was seen."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] | None = None

    def read(self, body: bytes) -> None:
        """Take the usage of a whole body."""
        self._take(body)

    async def passing(self, events: AsyncGenerator[bytes, None], *, visible: bool) -> AsyncGenerator[bytes, None]:
        """``events`` unchanged; unless ``visible``, without the usage that the client did not ask for."""
        async for data in events:
            if _USAGE_OBJECT in data:
                self._take(data)
                if not visible and _NO_CHOICES in data:
                    continue
            if not visible and _USAGE_NULL in data:
                # Quotes inside a JSON string are escaped, so these bytes are a key wherever they stand.
                data = data.replace(_USAGE_NULL, b"")
            yield data

    def _take(self, data: bytes) -> None:
        try:
            usage = orjson.loads(data).get("usage")
        except (ValueError, AttributeError):
            return
        if isinstance(usage, dict):
            self.usage = usage
