"""Names of tokens, and their log probabilities in OpenAI's two shapes."""

import pytest

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.logprobs import TokenWords
from genkan.serving.pieces import Scored
from genkan.upstream.tokenizer import TextTokenizer

IMPOSSIBLE = float("-inf")


@pytest.fixture
def words(tokenizer: TextTokenizer) -> TokenWords:
    return TokenWords(tokenizer)


def alone(token: int, logprob: float = -0.5) -> Scored:
    return Scored(token, TokenLogprobs(logprob), 0)


def test_a_chat_names_tokens_by_text_and_by_bytes(words: TokenWords, tokenizer: TextTokenizer) -> None:
    (token,) = tokenizer.encode(" the")
    assert words.chat([alone(token)]) == {
        "content": [{"token": " the", "logprob": -0.5, "bytes": [32, 116, 104, 101], "top_logprobs": []}],
        "refusal": None,
    }


def test_the_likeliest_come_in_the_engines_order(words: TokenWords, tokenizer: TextTokenizer) -> None:
    one, other = tokenizer.encode("a b")
    (entry,) = words.chat([Scored(one, TokenLogprobs(-3.0, ((other, -0.1), (one, -3.0))), 0)])["content"]
    assert [(top["token"], top["logprob"]) for top in entry["top_logprobs"]] == [(" b", -0.1), ("a", -3.0)]


def test_a_part_of_a_character_is_written_out(words: TokenWords, tokenizer: TextTokenizer) -> None:
    first, *_ = tokenizer.encode("한")
    raw = tokenizer.token_bytes_of(first)
    (entry,) = words.chat([alone(first)])["content"]
    spelt = "".join(f"\\x{byte:02x}" for byte in raw)
    assert (entry["token"], entry["bytes"]) == (spelt, list(raw))
    assert words.completion([alone(first)])["tokens"] == ["bytes:" + spelt]


def test_a_special_token_is_named_as_it_is_spelt(words: TokenWords, tokenizer: TextTokenizer) -> None:
    token = tokenizer.token_id("<|im_end|>")
    assert token is not None
    assert words.chat([alone(token)])["content"][0]["token"] == "<|im_end|>"


def test_what_cannot_be_is_a_number_that_json_has(words: TokenWords) -> None:
    assert words.chat([alone(5, IMPOSSIBLE)])["content"][0]["logprob"] == -9999.0
    assert words.completion([alone(5, IMPOSSIBLE)])["token_logprobs"] == [-9999.0]


def test_a_completion_has_lists_and_its_own_token_among_the_likeliest(
    words: TokenWords, tokenizer: TextTokenizer
) -> None:
    one, other = tokenizer.encode("a b")
    scored = [Scored(one, None, 0), Scored(other, TokenLogprobs(-2.0, ((one, -0.2),)), 1)]
    assert words.completion(scored) == {
        "tokens": ["a", " b"],
        "token_logprobs": [None, -2.0],
        "top_logprobs": [None, {"a": -0.2, " b": -2.0}],
        "text_offset": [0, 1],
    }
