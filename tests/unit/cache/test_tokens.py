"""A text in pieces."""

import pytest

from genkan.cache.tokens import CODE, QUOTED, TOKEN, number_of, spelt_out, trigrams


@pytest.mark.parametrize(
    ("token", "number"),
    [("1,000", "1000"), ("1.000.000", "1000000"), ("1.5", "1.5"), ("1,5", "1.5"), ("007", "7"), ("0", "0")],
)
def test_a_number_has_one_spelling(token: str, number: str) -> None:
    assert number_of(token) == number


def test_a_word_is_no_number() -> None:
    assert number_of("ten") is None


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("can't", "can not"),
        ("Won't it?", "will not it?"),
        ("isn't", "is not"),
        ("what's new", "what  new"),
        ("a b", "a b"),
    ],
)
def test_short_forms_are_spelt_out(text: str, spelt: str) -> None:
    assert spelt_out(text) == spelt


@pytest.mark.parametrize(
    "code",
    [
        "`ls -l`",
        "https://example.com/x?y=1",
        "me@example.com",
        "--verbose",
        "/etc/hosts/x",
        "run()",
        "a_b",
        "3.11.7",
        "v2",
    ],
)
def test_code_is_found_whole(code: str) -> None:
    assert [match.group() for match in CODE.finditer(f"what is {code} here")] == [code]


@pytest.mark.parametrize("text", ["it is well-known", "and/or", "the U.S. economy", "10.5 percent", "Q&A"])
def test_prose_is_no_code(text: str) -> None:
    assert CODE.search(text) is None


def test_quotations_of_any_kind() -> None:
    found = [next(filter(None, match.groups())) for match in QUOTED.finditer("\"a b\" «c» 「d」 'e' don't")]
    assert found == ["a b", "c", "d", "e"]


def test_words_numbers_and_signs() -> None:
    assert TOKEN.findall("pay $5.50, or 10% on 12/05: 비밀번호 đổi 3rd") == [
        "pay", "$", "5.50", "or", "10", "%", "on", "12/05", "비밀번호", "đổi", "3rd",
    ]  # fmt: skip


def test_trigrams_see_the_ends() -> None:
    assert trigrams("ab") == {" ab", "ab "}
