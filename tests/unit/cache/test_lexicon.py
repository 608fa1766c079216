"""How the word lists are read."""

import pytest

from genkan.cache.language import LEXICONS
from genkan.cache.lexicon import groups, longest, named, no_role, patterns, phrase_book, same, sides, valued, words

LANGUAGES = sorted(LEXICONS)


def test_the_first_of_a_line_stands_for_all() -> None:
    assert groups("buy, purchase\nbig, large", same) == {"buy": "buy", "purchase": "buy", "big": "big", "large": "big"}


def test_two_sides_have_two_signs_and_synonyms_the_same() -> None:
    meaning = groups("buy, purchase", same)
    assert sides("purchase | sell\non, up | off", meaning, same) == {"buy": 1, "sell": -1, "on": 2, "up": 2, "off": -2}


def test_a_line_without_two_sides_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        sides("on off", {}, same)


def test_lists_names_values_and_phrases() -> None:
    assert words("a b", str.upper) == {"A", "B"}
    assert named("mon: monday mondays\ntue: tuesday", same) == {"monday": "mon", "mondays": "mon", "tuesday": "tue"}
    assert valued("two:2 ten:10", same) == {"two": "2", "ten": "10"}
    assert phrase_book("login: log in, sign in") == {"log in": "login", "sign in": "login"}
    assert longest(["a", "a b c", "a b"]) == 3
    assert no_role("word") is None


def test_a_pattern_may_go_on_in_the_next_line() -> None:
    ((name, pattern),) = patterns("when: when\n|what time")
    assert name == "when"
    assert pattern.search("at what time")


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_phrase_is_longer_than_is_looked_for(name: str) -> None:
    lexicon = LEXICONS[name]
    assert lexicon.phrase_words == longest(lexicon.phrases)


@pytest.mark.parametrize("name", LANGUAGES)
def test_what_a_guard_looks_for_is_not_thrown_away_as_a_synonym_of_something_else(name: str) -> None:
    lexicon = LEXICONS[name]
    assert all(lexicon.meaning.get(word, word) == word for word in lexicon.joints)


@pytest.mark.parametrize("name", LANGUAGES)
def test_both_sides_of_an_opposition_are_there(name: str) -> None:
    poles = set(LEXICONS[name].poles.values())
    assert poles == {-pole for pole in poles}
