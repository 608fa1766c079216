"""Which requests and texts a like question may be sought for at all. Pure."""

import re

from genkan.cache.question import Question
from genkan.wire.chat import GenerationRequest

#: A longer text is seldom asked twice in other words, and taking it apart would hold up the event loop (1 ms).
MOST_CHARACTERS = 400
_LEAST_WORDS = {"ko": 2}  # a Korean word has its particles with it
_LEAST = 3
_LITERAL = re.compile(r"```|`|://|\bwww\.|\S@\S|[{}<>=;|\\]|\d{6,}")


def is_plain(request: GenerationRequest) -> bool:
    """Whether the last text alone decides the answer: one with tools may call one for this wording, and not for that.

    What else the request says need not be looked at here, as it is part of the partition.
    """
    raw = request.raw
    return not ((raw.get("tools") or raw.get("functions")) and raw.get("tool_choice", "auto") != "none")


def may_be(text: str) -> bool:
    """Whether ``text`` is worth taking apart: neither long nor with code, addresses or account numbers. 4 to 30 µs."""
    return len(text) <= MOST_CHARACTERS and _LITERAL.search(text) is None


def obstacle(question: Question) -> str | None:
    """Why no like question may be sought for this one, or None. Its text has passed ``may_be``."""
    if question.language is None:
        return "language"
    if question.passing:
        return "passing"
    if len(question.spoken) < _LEAST_WORDS.get(question.language, _LEAST) or not question.bag:
        return "short"
    return None
