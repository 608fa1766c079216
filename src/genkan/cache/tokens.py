"""A text in pieces: words, numbers, quotations, code. Pure; what they mean is the lexicons' affair."""

import re

#: What must be equal to the letter: code, addresses, paths, names with underscores or digits, versions.
CODE = re.compile(
    r"```.*?```|`[^`]+`|https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.]+|(?<!\w)--?[a-z][\w-]+(?!\w)"
    r"|(?:[\w.~-]*/){2,}[\w.-]+|\b[a-z_]\w*\([^)]*\)|\b\w+_\w+\b|\b[vV]?\d+(?:\.\d+){2,}\b|\b[vV]\d+\b"
    r"|\b[A-Za-z]+-?\d[\w-]*|\b\d+[A-Za-z][\w]*|[{}<>=;|\\]+"
    r"|\b\w+\.(?:py|js|ts|java|json|txt|csv|exe|pdf|html?|xml|ya?ml|md|sh)\b",
    re.DOTALL | re.ASCII,
)
#: What stands in quotation marks, in one of its groups.
QUOTED = re.compile(r"\"([^\"]+)\"|«([^»]+)»|「([^」]+)」|『([^』]+)』|(?<!\w)'([^']+)'(?!\w)")
#: A word, a number, or a sign of money or percent.
TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th)\b)?|[^\W\d_]+|[%$€£₹¥₫]")
#: A number with its unit written together.
MEASURE = re.compile(r"(\d[\d.,]*)([^\W\d_]+)")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
_CLITIC = re.compile(r"'(?:s|re|ve|ll|d|m)\b", re.IGNORECASE)


def spelt_out(text: str) -> str:
    """Without apostrophes: can't is can not, what's is what."""
    if "'" not in text:
        return text
    text = re.sub(r"\bcan't\b", "can not", text, flags=re.IGNORECASE)
    text = re.sub(r"\bwon't\b", "will not", text, flags=re.IGNORECASE)
    return _CLITIC.sub(" ", re.sub(r"n't\b", " not", text, flags=re.IGNORECASE))


def number_of(token: str) -> str | None:
    """A number as every language would write it, 1,000 and 1.000 as 1000; None for a word."""
    if not token[0].isdigit():
        return None
    if _THOUSANDS.fullmatch(token):
        token = re.sub("[.,]", "", token)
    return token.replace(",", ".").lstrip("0") or "0"


def trigrams(text: str) -> frozenset[str]:
    """Three letters at a time, with a space at both ends."""
    padded = f" {text} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))
