"""Where a text can be cut without cutting what its readers take for one character. Pure.

An accent stands behind its letter, as in Vietnamese that is not composed; a syllable of Hangul may be written as two or
three jamo; emoji are joined, coloured and paired. Between those there is no cut.

Source: Unicode Standard Annex 29, rules GB3 to GB13, but for conjuncts of Indic scripts and prepended marks.
"""

import unicodedata

_MOST_BEHIND = 64  # of one character; more in a row are no text
_JOINERS = "\u200c\u200d"  # ZWNJ, ZWJ
_ZWJ = "\u200d"
_MARKS = frozenset({"Mn", "Mc", "Me"})
_SYLLABLES, _SYLLABLES_END, _FINALS = 0xAC00, 0xD7A4, 28  # of Hangul, composed: every 28th ends in its vowel


def whole_until(text: str, end: int) -> int:
    """The last place not beyond ``end`` where ``text`` can be cut.

    Cost: 1 µs, whatever the text's length; 50 µs in what is no text.

    >>> whole_until("e\\u0301", 1), whole_until("e\\u0301", 2)
    (0, 2)
    """
    if end >= len(text):
        return len(text)
    for place in range(end, max(end - _MOST_BEHIND, 0), -1):
        if not _are_one(text, place):
            return place
    return end if end > _MOST_BEHIND else 0


def _are_one(text: str, place: int) -> bool:
    """Whether the characters before and at ``place`` belong together."""
    before, here = text[place - 1], text[place]
    if here < "\u0300":  # all that ASCII and Latin-1 have is a line's end
        return before == "\r" and here == "\n"
    if unicodedata.category(here) in _MARKS or here in _JOINERS or before == _ZWJ:
        return True
    code = ord(here)
    if 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F:  # skin colours; tags, of flags
        return True
    if 0x1F1E6 <= code <= 0x1F1FF:  # letters of flags, in pairs
        return _num_flag_letters(text, place) % 2 == 1
    if 0xDC00 <= code <= 0xDFFF:  # half of a surrogate pair
        return "\ud800" <= before <= "\udbff"
    return _is_one_syllable(_hangul(before), _hangul(here))


def _num_flag_letters(text: str, place: int) -> int:
    """How many stand before ``place``, without a gap."""
    begin = place
    while begin > max(place - _MOST_BEHIND, 0) and "\U0001f1e6" <= text[begin - 1] <= "\U0001f1ff":
        begin -= 1
    return place - begin


def _hangul(char: str) -> str:
    """What it is of a syllable: its beginning L, vowel V or end T, LV or LVT; nothing of other scripts."""
    code = ord(char)
    if _SYLLABLES <= code < _SYLLABLES_END:
        return "LVT" if (code - _SYLLABLES) % _FINALS else "LV"
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    return "T" if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB else ""


def _is_one_syllable(before: str, here: str) -> bool:
    if before == "L":
        return here in ("L", "V", "LV", "LVT")
    if before in ("V", "LV"):
        return here in ("V", "T")
    return before in ("T", "LVT") and here == "T"
