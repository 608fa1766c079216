"""One spelling for texts that a reader cannot tell apart."""

import re
import unicodedata

from genkan.nfc import nfc

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SIGNS = {
    0x3000: " ", 0x00A0: " ", 0x200B: None, 0x200C: None, 0x200D: None, 0xFEFF: None, 0x00AD: None,
    0x2018: "'", 0x2019: "'", 0x201B: "'", 0x02BC: "'", 0x201C: '"', 0x201D: '"', 0x201F: '"',
    0x2010: "-", 0x2011: "-", 0x2212: "-",
}  # fmt: skip
_FOLDED = {**_WIDE, **_SIGNS}

_TONED = {  # the tone on the second vowel -> the vowel it moves to, by the vowel that carried it
    "o": (dict(zip("àáảãạèéẻẽẹ", "òóỏõọòóỏõọ", strict=True)), dict(zip("àáảãạèéẻẽẹ", "aaaaaeeeee", strict=True))),
    "u": (dict(zip("ỳýỷỹỵ", "ùúủũụ", strict=True)), dict(zip("ỳýỷỹỵ", "yyyyy", strict=True))),
}
_LATE_TONE = re.compile(r"(?<![qQ])(?:[oO][àáảãạèéẻẽẹÀÁẢÃẠÈÉẺẼẸ]|[uU][ỳýỷỹỵỲÝỶỸỴ])(?![^\W\d_])")
_SPACES = re.compile(r"\s+")
_MARKS = range(0x300, 0x370)  # combining


def canonical(text: str) -> str:
    """``text`` with one code point sequence, width, quote sign, hyphen and space for what reads the same.

    NFC, so that a Vietnamese text composed or not is one text; never NFKC, which makes x² into x2. A tone mark of an
    open oa, oe or uy stands on the first vowel: hoà is hòa. Letters keep their case, digits their value.

    >>> canonical("Hoà  ２０") == canonical("Ho\\u0300a 20")
    True
    """
    text = nfc(text).translate(_FOLDED)
    if not text.isascii():
        text = _LATE_TONE.sub(_early_tone, text)
    return _SPACES.sub(" ", text).strip()


def bare(text: str) -> str:
    """A Vietnamese text as it is typed without marks: đổi is doi."""
    apart = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(sign for sign in apart if ord(sign) not in _MARKS)


def _early_tone(late: re.Match[str]) -> str:
    first, second = late.group()[0], late.group()[1]
    toned, plain = _TONED[first.lower()]
    moved, left = toned[second.lower()], plain[second.lower()]
    return (moved.upper() if first.isupper() else moved) + (left.upper() if second.isupper() else left)
