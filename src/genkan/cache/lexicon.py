"""What the guards have to know of a language."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Pattern = re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """The words of one language that decide whether two questions ask the same. Built once, at import.

    All words are as ``Question`` sees them: lower case, and run through ``stem``. ``meaning`` maps a word to the one
    that stands for its group of synonyms, so that two synonyms are one word to every guard.
    """

    name: str
    stem: Callable[[str], str]
    phrases: Mapping[str, str]  # several words -> the one that replaces them
    phrase_words: int  # in the longest phrase
    meaning: Mapping[str, str]
    filler: frozenset[str]  # says nothing about what is asked
    negation: Pattern  # each match in the text says no once
    affirmed: Pattern  # looks like a negation and is none
    poles: Mapping[str, int]  # n on one side of an opposition, -n on the other
    scope: Mapping[str, str]  # all, only, without: changes the answer wherever it stands
    moments: frozenset[str]  # the answer is another one tomorrow
    numbers: Mapping[str, str]  # words that count
    units: Mapping[str, str]
    dates: Mapping[str, str]
    joints: Mapping[str, tuple[str | None, str]]  # a word -> the roles of what stands before and after it
    asker: frozenset[str]  # who asks, as one that others do something to; words as written
    of: frozenset[str]  # words that make the next one an owner
    role: Callable[[str], str | None]  # the role a word's own ending gives it
    asks: tuple[tuple[str, Pattern], ...]  # what is asked for; the leftmost counts, the earlier of two at one place


def groups(lines: str, stem: Callable[[str], str]) -> dict[str, str]:
    """One group of synonyms a line, separated by commas: each word -> the first of its line."""
    meaning: dict[str, str] = {}
    for line in lines.strip().splitlines():
        words = [stem(word.strip()) for word in line.split(",") if word.strip()]
        meaning.update(dict.fromkeys(words, words[0]))
    return meaning


def sides(lines: str, meaning: Mapping[str, str], stem: Callable[[str], str]) -> dict[str, int]:
    """One opposition a line, ``a b | c d``: the words of its sides -> n and -n."""
    poles: dict[str, int] = {}
    for number, line in enumerate(lines.strip().splitlines(), 1):
        for sign, side in zip((number, -number), line.split("|"), strict=True):
            for word in side.split(","):
                stemmed = stem(word.strip())
                poles[meaning.get(stemmed, stemmed)] = sign
    return poles


def words(text: str, stem: Callable[[str], str]) -> frozenset[str]:
    """The words of a list, separated by spaces."""
    return frozenset(stem(word) for word in text.split())


def valued(text: str, stem: Callable[[str], str]) -> dict[str, str]:
    """A list of ``word:value``, separated by spaces."""
    pairs = (pair.split(":") for pair in text.split())
    return {stem(word): value for word, value in pairs}


def named(lines: str, stem: Callable[[str], str]) -> dict[str, str]:
    """One name a line, ``name: word word``: each word -> its name."""
    found: dict[str, str] = {}
    for line in lines.strip().splitlines():
        name, _, members = line.partition(":")
        found.update({stem(word): name.strip() for word in members.split()})
    return found


def phrase_book(lines: str) -> dict[str, str]:
    """One word a line, ``word: several words, others``: each phrase -> its word."""
    found: dict[str, str] = {}
    for line in lines.strip().splitlines():
        name, _, members = line.partition(":")
        found.update({phrase.strip(): name.strip() for phrase in members.split(",")})
    return found


def longest(phrases: Iterable[str]) -> int:
    """Words in the longest of the phrases."""
    return max(phrase.count(" ") + 1 for phrase in phrases)


def patterns(lines: str) -> tuple[tuple[str, Pattern], ...]:
    """One class a line, ``class: regular expression``, in order; a line that begins with ``|`` goes on."""
    pairs = [line.split(":", 1) for line in lines.strip().replace("\n|", "|").splitlines()]
    return tuple((name.strip(), re.compile(pattern.strip())) for name, pattern in pairs)


def no_role(word: str) -> str | None:
    """None: no word's ending tells its role."""
    return None


def same(word: str) -> str:
    """The word itself: the stem in a language whose words do not change."""
    return word
