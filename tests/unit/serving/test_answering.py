"""One answer as its tokens come."""

from collections.abc import Sequence
from typing import Any

import pytest
from local_answers import IM_END
from scripted_engine import said

from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.sampling_params import FinishReason
from genkan.serving.answering import Answering, Ending
from genkan.serving.pieces import Piece
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.upstream.tokenizer import TextTokenizer

HALF = TokenLogprobs(-0.7)
STOPS = frozenset({IM_END})


class LetterParser:
    """Capital letters begin calls, digits are their arguments, anything else is text."""

    def __init__(self) -> None:
        self._place = -1

    def push(self, text: str) -> list[Delta]:
        return [self._delta(char) for char in text]

    def flush(self) -> list[Delta]:
        return []

    def _delta(self, char: str) -> Delta:
        if char.isupper():
            self._place += 1
            return CallBegan(self._place, f"call_{char}", char)
        return CallArguments(self._place, char) if char in "0123456789{}" else TextDelta(char)


def pieces(
    answering: Answering, ids: Sequence[int], reason: FinishReason = "stop", *, scored: bool = False
) -> list[Piece]:
    tokens = said(ids, reason, logprobs=[HALF] * len(ids) if scored else ())
    return [piece for token in tokens if (piece := answering.take(token)) is not None]


def texts(found: Sequence[Piece]) -> list[str]:
    return ["".join(delta.text for delta in piece.deltas if isinstance(delta, TextDelta)) for piece in found]


def tokens_in(found: Sequence[Piece]) -> list[list[int]]:
    return [[scored.id for scored in piece.scored] for piece in found]


@pytest.fixture
def ids(tokenizer: TextTokenizer) -> list[int]:
    """'Hello there, world!' in five tokens, and the end of the turn."""
    made = [*tokenizer.encode("Hello there, world!"), IM_END]
    assert len(made) == 6
    return made


def answering(tokenizer: TextTokenizer, **ending: Any) -> Answering:
    return Answering(3, tokenizer.text_stream(), Ending(stop_ids=STOPS, **ending))


def test_each_token_is_a_piece_and_the_last_has_the_reason(tokenizer: TextTokenizer, ids: list[int]) -> None:
    found = pieces(answering(tokenizer), ids)
    assert texts(found) == ["Hello", " there", ",", " world", "!", ""]
    assert [piece.reason for piece in found] == [None] * 5 + ["stop"]
    assert {piece.answer for piece in found} == {3}


def test_nothing_comes_after_its_end(tokenizer: TextTokenizer, ids: list[int]) -> None:
    answer = answering(tokenizer, stop=("there",))
    found = pieces(answer, ids)
    assert texts(found) == ["Hello", " "]
    assert found[-1].reason == "stop"
    assert answer.ended
    assert answer.num_tokens == 2


@pytest.mark.parametrize(("shows_stop", "text"), [(False, "Hello "), (True, "Hello there")])
def test_a_stop_string_is_part_of_the_answer_if_that_is_wanted(
    tokenizer: TextTokenizer, ids: list[int], shows_stop: bool, text: str
) -> None:
    assert "".join(texts(pieces(answering(tokenizer, stop=("there",), shows_stop=shows_stop), ids))) == text


@pytest.mark.parametrize(("shows_stop", "text"), [(False, "Hello there"), (True, "Hello there,")])
def test_so_is_a_stop_token_that_has_a_text(
    tokenizer: TextTokenizer, ids: list[int], shows_stop: bool, text: str
) -> None:
    answer = Answering(0, tokenizer.text_stream(), Ending(stop_ids=STOPS | {ids[2]}, shows_stop=shows_stop))
    assert "".join(texts(pieces(answer, ids[:3]))) == text


def test_a_token_that_closes_a_grammar_is_shown(tokenizer: TextTokenizer, ids: list[int]) -> None:
    """The engine says "stop" of it, though it is no stop token."""
    assert texts(pieces(answering(tokenizer), ids[:3])) == ["Hello", " there", ","]


@pytest.mark.parametrize(("min_tokens", "text"), [(0, "Hell"), (1, "Hello there, w"), (4, "Hello there, world!")])
def test_no_stop_string_is_looked_for_before_the_least_number_of_tokens(
    tokenizer: TextTokenizer, ids: list[int], min_tokens: int, text: str
) -> None:
    assert "".join(texts(pieces(answering(tokenizer, stop=("o",), min_tokens=min_tokens), ids))) == text


# Log probabilities


def scoring(tokenizer: TextTokenizer, **ending: Any) -> Answering:
    return Answering(0, tokenizer.text_stream(), Ending(stop_ids=STOPS, **ending), scores=True)


def test_each_piece_has_its_tokens_and_the_end_of_the_turn_is_none(tokenizer: TextTokenizer, ids: list[int]) -> None:
    found = pieces(scoring(tokenizer), ids, scored=True)
    assert tokens_in(found) == [[token] for token in ids[:5]] + [[]]
    assert [scored.offset for piece in found for scored in piece.scored] == [0, 5, 11, 12, 18]


def test_tokens_go_with_the_text_that_they_complete(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("한국")
    found = pieces(scoring(tokenizer), [*ids, IM_END], scored=True)
    assert "".join(texts(found)) == "한국"
    assert [token for piece in found for token in (scored.id for scored in piece.scored)] == ids
    assert all(piece.scored for piece in found if piece.deltas)
    assert len(found) < len(ids) + 1  # so some character took several tokens


def test_tokens_of_which_a_stop_string_leaves_nothing_are_dropped(tokenizer: TextTokenizer, ids: list[int]) -> None:
    found = pieces(scoring(tokenizer, stop=("re, w",)), ids, scored=True)
    assert texts(found) == ["Hello", " the", ""]
    assert tokens_in(found) == [[ids[0]], [ids[1]], []]  # of the second a part is shown


def test_tokens_wait_with_the_text_that_may_become_a_stop_string(tokenizer: TextTokenizer, ids: list[int]) -> None:
    found = pieces(scoring(tokenizer, stop=(" there, moon",)), ids, scored=True)
    assert texts(found) == ["Hello", " there, world", "!", ""]
    assert tokens_in(found) == [ids[:1], ids[1:4], ids[4:5], []]


def test_tokens_without_a_text_come_with_the_end(tokenizer: TextTokenizer, ids: list[int]) -> None:
    found = pieces(scoring(tokenizer), [ids[0], IM_END, IM_END], "length", scored=True)
    assert tokens_in(found) == [[ids[0]], [IM_END, IM_END]]
    assert texts(found) == ["Hello", ""]


# Tool calls


def calling(tokenizer: TextTokenizer, text: str, reason: FinishReason = "stop", **ending: Any) -> list[Piece]:
    answer = Answering(0, tokenizer.text_stream(), Ending(stop_ids=STOPS, **ending), parser=LetterParser())
    ids = [token for char in text for token in tokenizer.encode(char)]
    return pieces(answer, [*ids, IM_END] if reason == "stop" else ids, reason)


def deltas(found: Sequence[Piece]) -> list[Delta]:
    return [delta for piece in found for delta in piece.deltas]


@pytest.mark.parametrize(
    ("text", "reason", "given"),
    [
        ("ab", "stop", "stop"),
        ("ab", "length", "length"),
        ("aF{}", "stop", "tool_calls"),
        ("F{}", "length", "tool_calls"),  # cut after its last call
        ("F{}G{", "length", "length"),
        ("F", "length", "length"),
        ("F{", "stop", "tool_calls"),  # as whole as the model made it
    ],
)
def test_an_answer_with_calls_ends_for_them_unless_the_last_is_cut_off(
    tokenizer: TextTokenizer, text: str, reason: FinishReason, given: str
) -> None:
    assert calling(tokenizer, text, reason)[-1].reason == given


def test_calls_come_in_the_order_in_which_they_were_said(tokenizer: TextTokenizer) -> None:
    assert deltas(calling(tokenizer, "aF1G2")) == [
        TextDelta("a"),
        CallBegan(0, "call_F", "F"),
        CallArguments(0, "1"),
        CallBegan(1, "call_G", "G"),
        CallArguments(1, "2"),
    ]


def test_one_call_at_a_time_ends_the_answer_before_the_second(tokenizer: TextTokenizer) -> None:
    found = calling(tokenizer, "aF1G2", parallel_calls=False)
    assert deltas(found) == [TextDelta("a"), CallBegan(0, "call_F", "F"), CallArguments(0, "1")]
    assert [piece.reason for piece in found if piece.reason] == ["tool_calls"]


def test_a_stop_string_cuts_inside_of_a_call_too(tokenizer: TextTokenizer) -> None:
    found = calling(tokenizer, "F{12}", stop=("2",))
    assert deltas(found) == [CallBegan(0, "call_F", "F"), CallArguments(0, "{"), CallArguments(0, "1")]
    assert found[-1].reason == "tool_calls"
