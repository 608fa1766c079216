"""Which requests and texts a like one is sought for."""

import pytest
from semantic_rigs import chat

from genkan.cache.question import Question
from genkan.cache.seekable import MOST_CHARACTERS, is_plain, may_be, obstacle

TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, True),
        ({"tools": []}, True),
        ({"tools": TOOLS}, False),
        ({"functions": [{"name": "f"}]}, False),
        ({"tools": TOOLS, "tool_choice": "auto"}, False),
        ({"tools": TOOLS, "tool_choice": "none"}, True),
    ],
)
def test_with_tools_at_hand_the_wording_may_decide_which_is_called(options: dict[str, object], plain: bool) -> None:
    assert is_plain(chat("How do I pay?", **options)) is plain


@pytest.mark.parametrize(
    "text",
    [
        "```print(1)```",
        "what does `ls` do here",
        "see https://a.example/b please",
        "see www.a.example please",
        "write to me@a.example please",
        'is {"a": 1} right for that',
        "where is order 1234567 now",
        "x" * (MOST_CHARACTERS + 1),
    ],
)
def test_code_addresses_account_numbers_and_long_texts_are_not(text: str) -> None:
    assert not may_be(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("How do I pay with PayPal?", None),
        ("Làm sao để đổi mật khẩu?", None),
        ("비밀번호 변경", None),
        ("Pay it", "short"),
        ("왜요", "short"),
        ("what is it to the", "short"),
        ("Wie bezahle ich das?", "language"),
        ("What is the weather today?", "passing"),
        ("pay " * 99 + "a b", None),
    ],
)
def test_a_question_stands_on_its_own(text: str, why: str | None) -> None:
    assert may_be(text)
    assert obstacle(Question.of(text)) == why
