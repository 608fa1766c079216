"""What is said where a text was to be gone on with, and how soon it is known that it is no repetition."""

from typing import Any

import pytest

from genkan.wire.begun_anew import BegunAnew, Doubt

TEXT = "Một, hai, ba"


def over(doubt: Doubt, *deltas: Any) -> list[bool]:
    return [doubt.is_over({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"content": text} for text in texts]


@pytest.mark.parametrize("pieces", [[TEXT], [*TEXT], ["Một, ", "hai, ba, bốn"], ["", TEXT[:5], "", TEXT[5:]]])
def test_all_of_the_text_once_more_is_begun_anew(pieces: list[str]) -> None:
    doubt = Doubt(TEXT.encode())
    *first, last = said(*pieces)
    assert not any(over(doubt, *first))
    with pytest.raises(BegunAnew):
        over(doubt, last)


@pytest.mark.parametrize(
    "pieces",
    [
        [" bốn"],
        [TEXT[:4], TEXT[4:-1] + "à"],  # two bytes, of which one is the same
        [TEXT[:-2], "bb"],
        [f" {TEXT}"],
    ],
)
def test_it_is_over_with_the_first_byte_that_differs(pieces: list[str]) -> None:
    assert over(Doubt(TEXT.encode()), *said(*pieces)) == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("delta", [{}, None, {"role": "assistant", "content": ""}, {"content": None, "refusal": None}])
def test_what_says_nothing_leaves_it_open(delta: Any) -> None:
    assert over(Doubt(TEXT.encode()), delta) == [False]


def test_an_end_or_anything_but_text_is_no_repetition_and_thoughts_are_no_continuation() -> None:
    assert Doubt(TEXT.encode()).is_over({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert over(Doubt(TEXT.encode()), {"tool_calls": [{"index": 0}]}) == [True]
    for name in ("reasoning", "reasoning_content"):
        with pytest.raises(BegunAnew):
            over(Doubt(TEXT.encode()), {name: "hm"})
    assert not Doubt(TEXT.encode()).is_over({"choices": []})
