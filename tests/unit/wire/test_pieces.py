"""What one choice says, in the order in which models say it, and where it stands."""

from typing import Any

import pytest

from genkan.wire.pieces import UnknownPiece, pieces_of


def test_pieces_come_in_the_order_in_which_models_say_them() -> None:
    function = {"arguments": "{", "name": "f"}
    delta = {
        "tool_calls": [{"index": 2, "id": "x", "function": function}, {"index": 3, "custom": {"input": "i"}}],
        "refusal": "r",
        "content": "c",
        "reasoning": "t",
        "function_call": {"name": "g"},
    }
    calls: set[int] = set()
    assert [(*piece.track, piece.text) for piece in pieces_of({"delta": delta}, calls)] == [
        ("reasoning", "t"),
        ("text", "c"),
        ("refusal", "r"),
        ("function_call", "name", "g"),
        ("tool", 2, "id", "*"),
        ("tool", 2, "function", "name", "f"),
        ("tool", 2, "function", "arguments", "{"),
        ("tool", 3, "custom", "input", "i"),
    ]
    assert calls == {2}
    assert not any(piece.track[-1] == "id" for piece in pieces_of({"delta": delta}, calls))


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "a"},
        {"delta": {"content": "a"}},
        {"delta": {"role": "assistant", "content": "a"}},
        {"delta": {"content": None, "reasoning": "a", "reasoning_content": "a"}},
    ],
    ids=str,
)
def test_a_piece_is_changed_in_all_its_places(choice: dict[str, Any]) -> None:
    (piece,) = pieces_of(choice, set())
    for holder, key in piece.places:
        holder[key] = "b"
    assert [changed.text for changed in pieces_of(choice, set())] == ["b"]


@pytest.mark.parametrize(
    "choice", [{}, {"text": ""}, {"delta": None}, {"delta": {}}, {"delta": {"content": ""}}], ids=str
)
def test_nothing_has_no_pieces(choice: dict[str, Any]) -> None:
    assert pieces_of(choice, set()) == []


@pytest.mark.parametrize(
    "choice",
    [
        {"text": 1},
        {"delta": {"content": 1}},
        {"delta": {"thinking": "a"}},
        {"delta": {"tool_calls": {"a": 1}}},
        {"x": 1},
    ],
    ids=str,
)
def test_what_nobody_knows_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(UnknownPiece):
        pieces_of(choice, set())
