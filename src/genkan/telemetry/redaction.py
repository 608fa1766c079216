"""Text for the log, without what tells who somebody is or lets one in. Pure.

What is found by its form is replaced by the kind of thing it was: e-mail addresses, keys and tokens, numbers of cards
(that pass Luhn's check), of phones, and of people: Vietnam's CCCD, Korea's RRN, the US's SSN. A form finds no names and
no addresses, and now and then an innocent number; so this makes a log safer, and never safe to publish.

Many languages put no space beside a number, so a letter that is not ASCII ends none: "카드는4111…입니다" has a card.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

MAX_CHARS: Final = 2000
#: Before a text is searched it is cut to this much more than is kept, so that nothing shows for being cut.
_MARGIN_CHARS: Final = 256

#: Wide forms of ASCII, spaces and hyphens of other widths become plain ones, and what has no width goes.
_PLAIN: Final[dict[int, int | None]] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000), 0x20),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), 0x2D),
    **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF), None),
}

#: Groups of digits, among them perhaps a card's, with what is often written behind it.
_DIGITS: Final = re.compile(r"(?<!\d)\d(?:[ .-]?\d){12,}", re.ASCII)
_GROUP: Final = re.compile(r"\d+", re.ASCII)
_CARD_DIGITS: Final = range(13, 20)
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")  # and the two digits of what is more than 9 added up
#: What may be a secret for its looks alone; PEM's lines and AWS's secret keys are.
_RUN: Final = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
_MIXED: Final = tuple(map(re.compile, ("[a-z]", "[A-Z]", "[0-9]")))
_NO_WORD: Final = r"(?<![A-Za-z0-9])"
_NO_NUMBER: Final = r"(?<![A-Za-z0-9_+])(?<!\d[.,-])"  # neither within a word, nor the rest of a longer number

_FORMS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "key"),
    (re.compile(r"\A.*-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), "key"),  # its beginning was cut off
    (re.compile(_NO_WORD + r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), "key"),  # a JSON web token
    (
        re.compile(
            _NO_WORD + r"(?:[sprg]k[-_]|gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|hf_|npm_|AIza|AKIA|ASIA)"
            r"[A-Za-z0-9_-]{12,}"
        ),
        "key",
    ),
    (re.compile(r"(?<=://)[^\s/@]{0,64}:[^\s/@]{1,256}(?=@)"), "key"),  # a URL's user and password
    (re.compile(r"(?i)authorization[\"']?\s*[:=]\s*[\"']?basic\s+[\w+/=-]{4,}"), "key"),
    (re.compile(r"(?i)(?<![a-z])bearer\s+[\w.~+/=-]{8,}"), "key"),
    (
        re.compile(
            r"(?i)(?:(?:api|access|private)[_-]?key|secret|token|passw(?:or)?d|passphrase|pwd|mật khẩu|비밀번호|암호)"
            r"(?:[_-][\w-]{0,32})?[\"']?\s*[:=]\s*[\"']?[^\s\"',;]{4,}"
        ),
        "key",
    ),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "email"),
    (re.compile(r"(?<!\d)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) ?-? ?[0-8]\d{6}(?!\d)"), "national-id"),  # RRN
    (re.compile(r"(?<!\d)\d{3}([- ])\d{2}\1\d{4}(?!\d)"), "national-id"),  # SSN
    (re.compile(_NO_NUMBER + r"0\d{2}[ .]?\d{3}[ .]?\d{3}[ .]?\d{3}(?!\d)"), "national-id"),  # CCCD
    (re.compile(r"(?<![A-Za-z0-9_])\+\d{1,3}(?:[ .()-]{0,2}\d){6,13}(?!\d)"), "phone"),
    (re.compile(_NO_NUMBER + r"\(?0\d{1,3}\)?(?:[ .-]?\d){6,9}(?!\d)"), "phone"),
    (re.compile(_NO_NUMBER + r"(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])\d{3}[ .-]\d{4}(?!\d)"), "phone"),  # North America's
)


def redacted(text: str, max_chars: int = MAX_CHARS) -> str:
    """``text`` without what was found, and at most ``max_chars`` of it; one that is cut ends in "…"."""
    searched = text[: max_chars + _MARGIN_CHARS]
    shown = _without(searched)
    if len(searched) < len(text):
        shown = shown[:-_MARGIN_CHARS]  # what was found is shorter now, and what stands here may be half of something
    elif len(shown) <= max_chars:
        return shown
    return f"{shown[: max_chars - 1]}…"


def redacted_end(text: str, max_chars: int = MAX_CHARS) -> str:
    """As ``redacted``, but of a long text the end; one that is cut begins with "…"."""
    searched = text[-max_chars - _MARGIN_CHARS :]
    shown = _without(searched)
    if len(searched) < len(text):
        shown = shown[_MARGIN_CHARS:]
    elif len(shown) <= max_chars:
        return shown
    return f"…{shown[1 - max_chars :]}"


def _without(text: str) -> str:
    text = _DIGITS.sub(_without_cards, text.translate(_PLAIN))
    for form, kind in _FORMS:
        text = form.sub(_named(kind), text)
    return _RUN.sub(_without_secret, text)


def _named(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda _: f"[{kind}]"


def _without_secret(match: re.Match[str]) -> str:
    return "[key]" if all(kind.search(match[0]) for kind in _MIXED) else match[0]


def _without_cards(match: re.Match[str]) -> str:
    """A card's number may be followed by its month, its year, its code: any groups that stand together are tried."""
    shown, at, first = "", 0, 0
    groups = [*_GROUP.finditer(match[0])]
    while first < len(groups):
        last = _end_of_card(groups, first)
        if last:
            shown += f"{match[0][at : groups[first].start()]}[card]"
            at = groups[last - 1].end()
        first = last or first + 1
    return shown + match[0][at:]


def _end_of_card(groups: Sequence[re.Match[str]], first: int) -> int:
    """Behind the last group of the longest card that begins with ``groups[first]``; 0 where none does."""
    digits, found = b"", 0
    for place, group in enumerate(groups[first : first + _CARD_DIGITS.stop], first + 1):
        digits += group[0].encode()
        if len(digits) in _CARD_DIGITS and _passes_luhn(digits):
            found = place
    return found


def _passes_luhn(digits: bytes) -> bool:
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED))
    return (total - len(digits) * ord("0")) % 10 == 0
