"""Where chats can be cut: at turns, and in the newest at steps, never between a call and its result."""

import time

import pytest
from truncation_rig import Message, calling, result, said

from genkan.gateway.turns import divided, shortened, text_chars

SYSTEM, DEVELOPER = said("system", "be brief"), said("developer", "be kind")
ASKED, ANSWERED = said("user", "q"), said("assistant", "a")


def sizes(messages: list[Message]) -> tuple[int, list[int]]:
    """Of the head, and of each piece."""
    head, pieces = divided(messages)
    assert [*head, *(one for piece in pieces for one in piece)] == messages
    return len(head), [len(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        pytest.param([ASKED], (0, [1]), id="a-question"),
        pytest.param([SYSTEM, DEVELOPER, ASKED], (2, [1]), id="a-head"),
        pytest.param([SYSTEM], (0, [1]), id="one-message-is-no-head"),
        pytest.param([SYSTEM, SYSTEM, DEVELOPER], (2, [1]), id="the-last-is-no-head"),
        pytest.param([ASKED, ANSWERED, ASKED, ANSWERED, ASKED], (0, [2, 2, 1]), id="turns"),
        pytest.param([ASKED, ASKED, ANSWERED, ASKED], (0, [1, 2, 1]), id="questions-in-a-row"),
        pytest.param([ANSWERED, ASKED, ANSWERED, ASKED], (0, [1, 2, 1]), id="an-answer-comes-first"),
        pytest.param([ASKED, ANSWERED, ASKED, ANSWERED], (0, [2, 2]), id="an-answer-to-go-on-with"),
        pytest.param([ASKED, ANSWERED, ASKED, SYSTEM], (0, [2, 2]), id="a-system-at-the-end"),
        pytest.param([ASKED, ANSWERED, SYSTEM, ASKED], (0, [2, 2]), id="a-system-before-its-question"),
        pytest.param([ASKED, SYSTEM, ANSWERED, ASKED], (0, [3, 1]), id="a-system-before-an-answer"),
        pytest.param([ASKED, calling("1"), result("1"), ANSWERED, ASKED], (0, [4, 1]), id="a-turn-with-a-call"),
        pytest.param([ASKED, calling("1"), result("1")], (0, [1, 2]), id="the-newest-turn-has-steps"),
        pytest.param(
            [ASKED, calling("1", "2"), result("2"), result("1"), calling("3"), result("3")],
            (0, [1, 3, 2]),
            id="parallel-calls",
        ),
        pytest.param([ASKED, calling("1", "2"), result("1"), ASKED, result("2")], (0, [1, 4]), id="a-late-result"),
        pytest.param([ASKED, calling("1"), calling("2"), result("1"), result("2")], (0, [1, 4]), id="calls-crossed"),
        pytest.param(
            [ASKED, calling("1"), result("1"), calling("1"), result("1")], (0, [1, 2, 2]), id="an-id-used-twice"
        ),
        pytest.param([ASKED, calling("1"), result("other")], (0, [1, 2]), id="a-result-of-nobody-knows-what"),
        pytest.param([result("1"), ASKED], (0, [1, 1]), id="a-result-comes-first"),
        pytest.param(
            [
                ASKED,
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
                {"role": "function", "name": "f", "content": "1"},
            ],
            (0, [1, 2]),
            id="a-function-of-old",
        ),
        pytest.param([ASKED, {"role": "assistant", "content": "a", "tool_calls": None}], (0, [2]), id="no-calls"),
    ],
)
def test_pieces(messages: list[Message], found: tuple[int, list[int]]) -> None:
    assert sizes(messages) == found


def test_a_result_at_the_end_holds_all_since_its_call_together() -> None:
    assert sizes([calling("1"), *([ASKED] * 5), result("1")]) == (0, [7])


def test_many_results_of_early_calls_take_no_time() -> None:
    ids = [f"{number}" for number in range(20_000)]
    began_s = time.perf_counter()
    head, pieces = divided([calling(*ids[:100]), *(message for one in ids for message in (ASKED, result(one)))])
    assert time.perf_counter() - began_s < 1.0
    assert (len(head), len(pieces)) == (0, 19_901)


def test_a_head_is_cut_where_its_characters_end() -> None:
    head = [said("system", "abcdef"), said("developer", "ghi")]
    assert text_chars(head) == 9
    assert shortened(head, 9) == head
    assert shortened(head, 8) == [head[0], said("developer", "gh")]
    assert shortened(head, 6) == [head[0]]
    assert shortened(head, 4) == [said("system", "abcd")]
    assert shortened(head, 0) == []


def test_a_cut_leaves_other_fields_and_other_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "abc", "cache_control": {"type": "ephemeral"}}, picture]
    head: list[Message] = [{"role": "system", "name": "n", "content": [*parts, {"type": "text", "text": "def"}]}]
    assert shortened(head, 5) == [{"role": "system", "name": "n", "content": [*parts, {"type": "text", "text": "de"}]}]
    assert shortened(head, 3) == [{"role": "system", "name": "n", "content": parts}]
    assert shortened(head, 2) == [{"role": "system", "name": "n", "content": [{**parts[0], "text": "ab"}]}]
    assert shortened(head, 0) == []
    assert head[0]["content"][0]["text"] == "abc"


def test_a_cut_leaves_characters_whole() -> None:
    assert shortened([said("system", "Vie\u0323\u0302t")], 4) == [said("system", "Vi")]
