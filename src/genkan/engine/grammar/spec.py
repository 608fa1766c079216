"""What form an answer is to have."""

from dataclasses import dataclass
from typing import Literal

GrammarKind = Literal["json_object", "json_schema", "regex", "choice", "lark"]


@dataclass(frozen=True, slots=True)
class GrammarSpec:
    """A grammar as it was asked for; equal specs are the same grammar, and compiled once.

    ``text`` is, by ``kind``: '' for ``json_object``; the schema as JSON; a regular expression that all of the answer
    matches; a JSON list of the strings to choose from; a grammar in llguidance's Lark.
    """

    kind: GrammarKind
    text: str = ""
