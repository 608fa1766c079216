"""OpenAI's error object, which every face and every library of ours shows for a RequestError."""

from typing import Any

import orjson

from genkan.errors import RequestError


def error_body(error: RequestError) -> bytes:
    """OpenAI's error object. Code points that cannot be written as UTF-8 are replaced."""
    content: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    try:
        return orjson.dumps({"error": content})
    except TypeError:
        clean = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in content.items()
        }
        return orjson.dumps({"error": clean})
