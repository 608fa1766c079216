"""When an upstream asks to be asked again: ``Retry-After`` and its relatives. No I/O.

Source: RFC 9110, sections 5.6.7 (the three forms of a date) and 10.2.3; ``retry-after-ms`` and fractions of a second
are OpenAI's.
"""

import re
from datetime import UTC, datetime

LONGEST_S = 300.0

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # RFC 850
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # asctime
)


def retry_after_s(
    retry_after: str | None, retry_after_ms: str | None, date: str | None, now_unix_s: float
) -> float | None:
    """Seconds from now, within [0, ``LONGEST_S``]; None when the answer says nothing that can be understood.

    The arguments are the headers ``retry-after``, ``retry-after-ms`` (which goes first, if it can be read) and
    ``date``. A date is taken relative to the answer's own ``date``, as the upstream's clock may differ from ours, or to
    ``now_unix_s`` when it has none that can be read; one that is past is 0.
    Never raises, whatever the headers.
    """
    milliseconds = _number(retry_after_ms)
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_S)
    seconds = _number(retry_after)
    if seconds is not None:
        return min(seconds, LONGEST_S)
    at_s = _unix_s(retry_after, now_unix_s)
    if at_s is None:
        return None
    sent_s = _unix_s(date, now_unix_s)
    return min(max(at_s - (now_unix_s if sent_s is None else sent_s), 0.0), LONGEST_S)


def _number(text: str | None) -> float | None:
    """Digits and at most a point: float() alone would also take signs, exponents, NaN, and digits of all scripts."""
    if text is None:
        return None
    text = text.strip(" \t")
    return float(text) if _NUMBER.fullmatch(text) else None


def _unix_s(text: str | None, now_unix_s: float) -> float | None:
    """The date ``text`` in seconds since 1970. The day of the week is not checked against the rest."""
    if text is None:
        return None
    text = text.strip(" \t")
    found = next((match for form in _DATES if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if second == 60:  # a leap second, which datetime does not know
        second = 59
    year, month, day = _year(found["year"], now_unix_s), _MONTHS.index(found["month"]) + 1, int(found["day"])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:  # a 31st of February, or an hour 25
        return None


def _year(digits: str, now_unix_s: float) -> int:
    """Two digits are a year of our century, or of the last one if that is more than 50 years ahead (5.6.7)."""
    if len(digits) == 4:
        return int(digits)
    this_year = datetime.fromtimestamp(now_unix_s, UTC).year
    year = this_year - this_year % 100 + int(digits)
    return year - 100 if year > this_year + 50 else year
