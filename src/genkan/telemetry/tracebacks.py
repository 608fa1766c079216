"""Where an exception came from, for the log. What it says is shortened and redacted.

The text of an exception that nobody foresaw may be a client's: a value that had the wrong form, a key of its JSON. The
frames have our own code, and no values.
"""

import traceback
from collections.abc import Iterator
from typing import Final

from genkan.telemetry.redaction import redacted

_MAX_CHARS: Final = 300
_MAX_CHAINED: Final = 8


def shown_traceback(error: BaseException) -> str:
    """Its frames, its type, and the beginning of what it says; those that it was raised from, or within, before it."""
    return "\n".join(_lines(error, _MAX_CHAINED)).rstrip()


def _lines(error: BaseException, most: int) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and most > 1:
        yield from _lines(before, most - 1)
        yield f"\n{'Raised from that' if error.__cause__ else 'While that was handled'}:\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    yield f"{type(error).__qualname__}: {_text(error)}".removesuffix(": ")
    if isinstance(error, BaseExceptionGroup) and most > 1:
        for each in error.exceptions[:_MAX_CHAINED]:
            yield f"\nIn the {type(error).__qualname__}:\n"
            yield from _lines(each, 1)


def _text(error: BaseException) -> str:
    try:
        return redacted(str(error), _MAX_CHARS)
    except Exception:  # noqa: BLE001 - whatever its __str__ raises
        return "(cannot be shown)"
