"""A question, taken apart once, so that comparing it with many stored ones is cheap."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from genkan.cache.language import LEXICONS, language
from genkan.cache.lexicon import Lexicon
from genkan.cache.normalise import canonical
from genkan.cache.tokens import CODE, MEASURE, QUOTED, TOKEN, number_of, spelt_out, trigrams

_LATIN = re.compile(r"[A-Za-z]+")
_LATIN_ENDS = re.compile(r"(?<=[a-z])(?=[가-힣])")  # SKT에서: a name, and its particle
_OPPOSED = {
    "source": ("goal",),
    "goal": ("source", "object", "subject"),
    "more": ("less",),
    "less": ("more", "subject", "object"),
    "earlier": ("later",),
    "later": ("earlier",),
    "subject": ("less", "object", "goal"),
    "object": ("goal", "less", "subject"),
}
_ORDINAL = frozenset({"st", "nd", "rd", "th"})
#: A longer text is no question that another asks in other words, and would cost more than it could save.
MOST_CHARACTERS = 2000
_LONG_WORD = re.compile(r"\S{101}")  # none that is meant; and some patterns would go over it again and again
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the guards and the score compare of a text. Two texts that read the same give equal questions.

    Everything but ``text`` and ``language`` is empty if the language is refused. Words are stems; synonyms share one.
    """

    text: str
    language: str | None
    asks: str = ""  # when, where, how …; empty if nothing is asked in so many words
    content: tuple[str, ...] = ()  # the words that say something, in order
    bag: frozenset[str] = _NONE  # the same, each once
    spoken: tuple[str, ...] = ()  # every word, filler too, in lower case
    words: frozenset[str] = _NONE  # the same, each once
    compares: bool = False  # from … to, more … than, before: a swap of its words asks for something else
    numbers: tuple[str, ...] = ()  # with their units, sorted
    dates: frozenset[str] = _NONE
    negations: int = 0
    poles: frozenset[int] = frozenset()
    counterpoles: frozenset[int] = frozenset()
    scope: frozenset[str] = _NONE
    entities: tuple[str, ...] = ()  # in order
    quotes: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    roles: frozenset[tuple[str, str]] = frozenset()
    counterroles: frozenset[tuple[str, str]] = frozenset()
    reaches: int | None = None  # content words before who asks, as one that others do something to; None: not so
    passing: bool = False  # asks about today or now
    trigrams: frozenset[str] = _NONE

    @classmethod
    def of(cls, text: str) -> Self:
        """Take a text apart. Any text will do; one of over 2,000 characters, or with a
        word of over 100, is refused as an unknown language is.

        Cost: about 0.2 ms for 10 words, at most some 20 ms.
        """
        text = canonical(text)
        name = language(text) if len(text) <= MOST_CHARACTERS and not _LONG_WORD.search(text) else None
        if name is None:
            return cls(text=text, language=None)
        return cls(text=text, language=name, **_Reading(text, LEXICONS[name]).found())  # type: ignore[arg-type]  # by name


class _Reading:
    """One pass over a text."""

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._numbers: list[str] = []
        self._dates, self._scope, self._poles = set[str](), set[str](), set[int]()
        self._content: list[str] = []
        self._roles = set[tuple[str, str]]()
        self._passing = self._compares = False
        self._reaches: int | None = None
        self._units = lexicon.units
        plain = CODE.sub(self._measure_or_code, spelt_out(text))
        self._quotes = tuple(next(filter(None, match.groups())).casefold() for match in QUOTED.finditer(text))
        self._codes = tuple(sorted(self._found_codes(spelt_out(text))))
        self._text, self._plain = text, plain

    def found(self) -> dict[str, object]:
        """The fields of ``Question``."""
        lexicon, lower = self._lexicon, self._plain.lower()
        raw = TOKEN.findall(lower)
        self._read(self._merged(raw))
        bag, spoken = frozenset(self._content), TOKEN.findall(_LATIN_ENDS.sub(" ", lower))
        return {
            "asks": _asks(lexicon, self._text.lower()),
            "content": tuple(self._content),
            "bag": bag,
            "spoken": tuple(spoken),
            "words": frozenset(spoken),
            "compares": self._compares,
            "numbers": tuple(sorted(self._numbers)),
            "dates": frozenset(self._dates),
            "negations": len(lexicon.negation.findall(lexicon.affirmed.sub(" ", lower))),
            "poles": frozenset(self._poles),
            "counterpoles": frozenset(-pole for pole in self._poles),
            "scope": frozenset(self._scope),
            "entities": self._entities(),
            "quotes": self._quotes,
            "codes": self._codes,
            "roles": frozenset(self._roles),
            "counterroles": frozenset((word, other) for word, role in self._roles for other in _OPPOSED.get(role, ())),
            "reaches": self._reaches,
            "passing": self._passing,
            "trigrams": trigrams(" ".join(raw)),
        }

    def _found_codes(self, text: str) -> Iterator[str]:
        for match in CODE.finditer(text):
            if not self._is_measure(match.group()):
                yield match.group().casefold()

    def _measure_or_code(self, match: re.Match[str]) -> str:
        code = match.group()
        if self._is_measure(code):
            return code if code[-2:].lower() in _ORDINAL else MEASURE.sub(r"\1 \2", code)
        return " "

    def _is_measure(self, code: str) -> bool:
        measure = MEASURE.fullmatch(code)
        if measure is None:
            return False
        unit = measure[2].lower()
        return unit in _ORDINAL or self._lexicon.stem(unit) in self._units

    def _merged(self, raw: Sequence[str]) -> list[str]:
        """The words with each known phrase as one."""
        phrases, most = self._lexicon.phrases, self._lexicon.phrase_words
        merged, at = list[str](), 0
        while at < len(raw):
            for size in range(min(most, len(raw) - at), 0, -1):
                phrase = phrases.get(" ".join(raw[at : at + size]))
                if phrase is not None:
                    merged.extend(phrase.split(" "))
                    break
            else:
                size = 1
                merged.append(raw[at])
            at += size
        return merged

    def _read(self, tokens: Sequence[str]) -> None:
        lexicon, before, joint = self._lexicon, "", ""
        at = 0
        while at < len(tokens):
            token = tokens[at]
            stem = lexicon.stem(token)
            at += 1
            if token in lexicon.asker and not (at > 1 and tokens[at - 2] in lexicon.of):
                self._reaches = len(self._content)
            number = number_of(token) or lexicon.numbers.get(stem) or lexicon.numbers.get(token)
            if number is not None:
                at += self._count(number, tokens, at)
                continue
            stem, joins = lexicon.meaning.get(stem, stem), stem in lexicon.joints
            joint = stem if joins else joint
            marked = self._is_marked(token, stem)
            if joins or marked or stem in lexicon.filler or (len(token) == 1 and token.isascii()):
                continue
            self._take(token, stem, before, joint)
            before, joint = stem, ""

    def _count(self, number: str, tokens: Sequence[str], at: int) -> int:
        """Note a number with the unit that follows it, or the sign before; how many tokens of it come after."""
        unit = self._unit(tokens[at]) if at < len(tokens) else None
        if unit is None:
            sign = self._units.get(tokens[at - 2]) if at >= 2 and not tokens[at - 2].isalnum() else None
            self._numbers.append(f"{number} {sign}" if sign else number)
            return 0
        self._numbers.append(f"{number} {unit}")
        return 1

    def _unit(self, token: str) -> str | None:
        units = self._units
        known = units.get(token) or units.get(self._lexicon.stem(token))
        if known is None and not token.isascii() and self._lexicon.name == "ko":
            known = next((units[token[:size]] for size in range(len(token), 0, -1) if token[:size] in units), None)
        return known

    def _is_marked(self, token: str, stem: str) -> bool:
        """Whether the word belongs to a closed class that has a guard of its own."""
        lexicon = self._lexicon
        if stem in lexicon.moments or token in lexicon.moments:
            self._passing = True
        date = lexicon.dates.get(token) or lexicon.dates.get(stem)
        if date is not None:
            self._dates.add(date)
        scope = lexicon.scope.get(token) or lexicon.scope.get(stem)
        if scope is not None:
            self._scope.add(scope)
        pole = lexicon.poles.get(stem)
        if pole is not None:
            self._poles.add(pole)
        return date is not None or scope is not None

    def _take(self, token: str, stem: str, before: str, joint: str) -> None:
        self._content.append(stem)
        role = self._lexicon.role(token)
        if role is not None:
            self._roles.add((stem, role))
        if joint and before:
            self._compares = True
        if joint:
            left, right = self._lexicon.joints[joint]
            self._roles.add((stem, right))
            if left is not None and before:
                self._roles.add((before, left))

    def _entities(self) -> tuple[str, ...]:
        """Names, in order: what has a capital where none is due; in a Korean text what is in Latin letters."""
        if self._lexicon.name == "ko":
            return tuple(word.lower() for word in _LATIN.findall(self._plain) if word.lower() not in self._units)
        cased = [match for match in TOKEN.finditer(self._plain) if match.group()[0].isalpha()]
        due = [self._is_due(match.start()) for match in cased]
        capital = [match.group()[0].isupper() and match.group() != "I" for match in cased]
        if sum(capital) * 10 > 6 * len(cased) and len(cased) > 3:
            return ()  # a headline: capitals tell nothing
        return tuple(
            match.group().lower()
            for match, is_due, is_capital in zip(cased, due, capital, strict=True)
            if (is_capital and not is_due)
            or (len(match.group()) > 1 and match.group()[1:] != match.group()[1:].lower())
        )

    def _is_due(self, start: int) -> bool:
        before = self._plain[:start].rstrip(" \"'(")
        return not before or before[-1] in ".!?:"


def _asks(lexicon: Lexicon, lower: str) -> str:
    best, name = len(lower) + 1, ""
    for asked, pattern in lexicon.asks:
        match = pattern.search(lower)
        if match is not None and match.start() < best:
            best, name = match.start(), asked
    return name
