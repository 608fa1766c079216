"""Text for the log, without what tells who somebody is or lets one in. Pure.

What is found by its form is replaced by the kind of thing it was: e-mail addresses, keys and tokens, numbers of cards
(that pass Luhn's check), of phones, and of people: Vietnam's CCCD, Korea's RRN, the US's SSN. A form finds no names and
no addresses, and now and then an innocent number; so this makes a log safer, and never safe to publish.
"""

import re
from collections.abc import Callable
from typing import Final

MAX_CHARS: Final = 2000
#: Before a text is searched it is cut to this much more than is kept, so that nothing is found for being cut.
_MARGIN_CHARS: Final = 256

#: Digits that may be grouped by spaces, dots or hyphens, and are no part of a longer number or word.
_CARD: Final = re.compile(r"(?<![\w.-])\d(?:[ .-]?\d){12,18}(?![\w-])")
_FORMS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "key"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), "key"),  # a JSON web token
    (re.compile(r"\b(?:sk|pk|rk|gk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|hf|AIza|AKIA|ASIA)[-_]?[\w-]{12,}"), "key"),
    (re.compile(r"(?i)\bbearer\s+[\w.~+/=-]{8,}"), "key"),
    (re.compile(r"(?i)\b(?:api[_-]?key|secret|token|passw(?:or)?d|pwd)\b\s*[:=]\s*[\"']?[^\s\"',;]{4,}"), "key"),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "email"),
    (re.compile(r"(?<!\d)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[- ]?[0-8]\d{6}(?!\d)"), "national-id"),  # RRN
    (re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"), "national-id"),  # SSN
    (re.compile(r"(?<![\d.+-])0\d{2}[ .]?\d{3}[ .]?\d{3}[ .]?\d{3}(?!\d)"), "national-id"),  # CCCD
    (re.compile(r"(?<![\w.])\+\d{1,3}(?:[ .()-]{0,2}\d){6,13}(?!\d)"), "phone"),
    (re.compile(r"(?<![\w.+-])\(?0\d{1,3}\)?(?:[ .-]?\d){6,9}(?!\d)"), "phone"),
    (re.compile(r"(?<![\w.-])\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)"), "phone"),  # North America's
)


def redacted(text: str, max_chars: int = MAX_CHARS) -> str:
    """``text`` without what was found, and at most ``max_chars`` of it; one that is cut ends in "…"."""
    shown = _without(text[: max_chars + _MARGIN_CHARS])
    return shown if len(shown) <= max_chars and len(text) <= max_chars else f"{shown[: max_chars - 1]}…"


def redacted_end(text: str, max_chars: int = MAX_CHARS) -> str:
    """As ``redacted``, but of a long text the end; one that is cut begins with "…"."""
    shown = _without(text[-max_chars - _MARGIN_CHARS :])
    return shown if len(shown) <= max_chars and len(text) <= max_chars else f"…{shown[1 - max_chars :]}"


def _without(text: str) -> str:
    text = _CARD.sub(_card, text)
    for form, kind in _FORMS:
        text = form.sub(_named(kind), text)
    return text


def _named(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda _: f"[{kind}]"


def _card(match: re.Match[str]) -> str:
    digits = [int(char) for char in match[0] if char.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return match[0] if (sum(digits[-1::-2]) + sum(doubled)) % 10 else "[card]"
