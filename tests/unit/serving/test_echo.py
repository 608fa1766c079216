"""A prompt as the beginning of its completion."""

import pytest

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.echo import Echo
from genkan.serving.tools.deltas import TextDelta
from genkan.upstream.tokenizer import TextTokenizer

HALF = TokenLogprobs(-0.7)


def echo(tokenizer: TextTokenizer, ids: list[int], text: str | None) -> Echo:
    made = Echo(ids, text, tokenizer, scores=True, is_all=False)
    made.logprobs = [None, *[HALF] * (len(ids) - 1)]
    return made


def test_a_prompt_of_ids_is_decoded(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("Hello there")
    assert Echo(ids, None, tokenizer, scores=False, is_all=False).deltas() == [TextDelta("Hello there")]


def test_without_log_probabilities_it_has_no_tokens(tokenizer: TextTokenizer) -> None:
    assert Echo(tokenizer.encode("Hello"), "Hello", tokenizer, scores=False, is_all=False).scored() == []


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("text", ["Hello there, world!", "tiếng Việt 한국어", "12 + 30\n\n= 42"])
def test_each_token_says_where_its_text_begins(tokenizer: TextTokenizer, text: str, as_text: bool) -> None:
    ids = tokenizer.encode(text)
    scored = echo(tokenizer, ids, text if as_text else None).scored()
    assert [each.id for each in scored] == ids
    assert scored[0].logprobs is None
    offsets = [each.offset for each in scored]
    assert offsets[0] == 0
    assert offsets == sorted(offsets)
    assert offsets[-1] <= len(text)
    for token, offset, end in zip(ids, offsets, [*offsets[1:], len(text)], strict=True):
        whole = tokenizer.token_bytes_of(token)
        if offset < end and "\ufffd" not in whole.decode("utf-8", "replace"):
            assert text[offset:end] == whole.decode()


def test_a_special_token_that_a_text_spells_takes_its_room(tokenizer: TextTokenizer) -> None:
    text = "<|im_start|>user\nHi"
    scored = echo(tokenizer, tokenizer.encode(text), text).scored()
    assert [each.offset for each in scored][:3] == [0, len("<|im_start|>"), len("<|im_start|>user")]


def test_one_among_ids_takes_none(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>user\nHi")
    made = echo(tokenizer, ids, None)
    assert made.text == "user\nHi"
    assert [each.offset for each in made.scored()][:3] == [0, 0, 4]


def test_one_that_the_encoder_put_before_a_text_takes_none(tokenizer: TextTokenizer) -> None:
    start = tokenizer.token_id("<|im_start|>")
    assert start is not None
    made = echo(tokenizer, [start, *tokenizer.encode("Hi you")], "Hi you")
    assert [each.offset for each in made.scored()] == [0, 0, 2]
