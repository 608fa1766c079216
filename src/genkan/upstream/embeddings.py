"""What computes embeddings, seen from those who ask for them; and how a text is made ready for that."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from genkan.errors import InvalidRequest
from genkan.nfc import nfc

_SURROGATE = re.compile("[\ud800-\udfff]")  # cannot be written as UTF-8

#: What models of the e5 family were trained with; a text that begins so has said what it is.
E5_PREFIXES = ("query: ", "passage: ")


class Embedded(NamedTuple):
    """Vectors of texts, and what they cost."""

    vectors: NDArray[np.float32]  # (texts, dimensions), each of length 1
    tokens: list[int]  # of each text, as the model read it: its prefix and the marks at its ends count


class Embeds(Protocol):
    """Computes embeddings."""

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedded:
        """The vectors of ``texts``, in their order, within ``timeout_s`` for all of them.

        Texts are put into Unicode's NFC and get the configured prefix. Raises InvalidRequest for an empty text and
        ContextTooLong for one that is too long, ``param`` saying which; else UpstreamError and nothing more.
        """

    async def aclose(self) -> None:
        """Close what is open."""


def prepared(texts: Sequence[str], prefix: str) -> list[str]:
    """The texts as a model gets them: NFC, and with the prefix unless they have one. Raises InvalidRequest."""
    ready = []
    for place, text in enumerate(texts):
        if not text:
            raise InvalidRequest("An empty text has no embedding.", param=param_of(place, len(texts)))
        if _SURROGATE.search(text):
            raise InvalidRequest("A text has half of a surrogate pair.", param=param_of(place, len(texts)))
        text = nfc(text)
        ready.append(text if not prefix or text.startswith((prefix, *E5_PREFIXES)) else prefix + text)
    return ready


def param_of(place: int, count: int) -> str:
    """How a client's request names the text at ``place`` of ``count``; it may send one text without a list."""
    return "input" if count == 1 else f"input[{place}]"


def in_pieces(texts: Sequence[str], *, most: int, most_chars: int) -> Iterator[Sequence[str]]:
    """The texts a few at a time, in order: so many and with so many characters at most, but always one."""
    start, chars = 0, 0
    for place, text in enumerate(texts):
        if place > start and (place - start == most or chars + len(text) > most_chars):
            yield texts[start:place]
            start, chars = place, 0
        chars += len(text)
    if start < len(texts):
        yield texts[start:]
