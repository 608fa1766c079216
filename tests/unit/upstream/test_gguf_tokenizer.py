"""Tokenizers from a GGUF file's key-values, beside the tokenizers library's own of the same vocabulary.

What transformers makes of the same files is in test_transformers_oracle.py.
"""

import random
import re
from typing import Any

import pytest
from tiny_tokenizers import TEXTS, byte_level, metadata_of, sentencepiece, sentencepiece_metadata
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from genkan.errors import ModelFileError
from genkan.upstream.pretokenizers import WORDS
from genkan.upstream.tokenizer import TextTokenizer

# What each name cuts a text into, worked out by hand from the regular expression of its family's tokenizer.json.
SAMPLE = "I'LL pay 12345€ to HTTPServer's\n\n  e\u0301x /\n"
WORDS_OF = {
    "gpt-2": "I|'|LL| pay| 12345|€| to| HTTPServer|'s|\n\n | e|\u0301|x| /|\n",
    "smollm": "I|'|LL| pay| |1|2|3|4|5|€| to| HTTPServer|'s|\n\n | e|\u0301|x| /|\n",
    "llama-bpe": "I|'LL| pay| |123|45|€| to| HTTPServer|'s|\n\n| | e|\u0301x| /\n",
    "qwen2": "I|'LL| pay| |1|2|3|4|5|€| to| HTTPServer|'s|\n\n| | éx| /\n",
    "qwen35": "I|'LL| pay| |1|2|3|4|5|€| to| HTTPServer|'s|\n\n| | éx| /\n",
    "tekken": "I|'LL| pay| |1|2|3|4|5|€| to| HTTPServer|'s|\n\n| | e\u0301x| /\n",
    "gpt-4o": "I'LL| pay| |123|45|€| to| HTTPServer's|\n\n| | e\u0301x| /\n",
    "deepseek-v3": "I|'LL| pay| |123|45|€| to| HTTPServer|'s|\n\n| | e\u0301x| /\n",
}


def words_of(pre: str, text: str) -> list[str]:
    words = WORDS[pre]
    text = normalizers.NFC().normalize_str(text) if words.nfc else text
    return [text[start:end] for _, (start, end) in words.build().pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", WORDS_OF)
def test_a_text_is_cut_into_words(pre: str) -> None:
    assert "|".join(words_of(pre, SAMPLE)) == WORDS_OF[pre]


@pytest.mark.parametrize("pre", WORDS)
def test_no_character_of_a_text_is_lost_between_words(pre: str) -> None:
    for text in TEXTS:
        assert "".join(words_of(pre, text)) == (normalizers.NFC().normalize_str(text) if WORDS[pre].nfc else text)


@pytest.mark.parametrize("pre", WORDS)
def test_a_byte_level_vocabulary_gives_the_ids_it_was_trained_with(pre: str) -> None:
    trained = byte_level(WORDS[pre].build(), ignore_merges=WORDS[pre].takes_whole)
    if WORDS[pre].nfc:
        trained.normalizer = normalizers.NFC()
    ours = TextTokenizer.of_gguf(metadata_of(trained, pre, add_bos_token=False))
    for text in TEXTS:
        ids = trained.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == trained.decode(ids)


def rebuilt(**options: Any) -> Tokenizer:
    """The tiny SentencePiece vocabulary with a merge for every way of making a token, as a folder would hold it."""
    vocabulary, scores, _ = sentencepiece()
    merges = [
        (scores[place], (token[:cut], token[cut:]))
        for token, place in vocabulary.items()
        for cut in range(len(token) - 1, 0, -1)
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    merges.sort(key=lambda merge: (merge[0], len(merge[1][0])), reverse=True)
    tokenizer = Tokenizer(
        BPE(vocabulary, [pair for _, pair in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def test_a_sentencepiece_vocabulary_gives_the_ids_of_its_merges_and_bytes() -> None:
    theirs, ours = rebuilt(), TextTokenizer.of_gguf(sentencepiece_metadata())
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_bos=False) == ids
        assert ours.decode(ids) == theirs.decode(ids) == text.replace("▁", " ")  # it spells a space so
    assert any(ours.token_bytes_of(each) == b"\xf0" for each in ours.encode("🦊"))  # so there were bytes


def test_sentencepiece_puts_a_space_first_unless_the_file_says_no() -> None:
    assert TextTokenizer(sentencepiece_metadata()).token_text(_first_id(sentencepiece_metadata())).startswith(" ")
    bare = sentencepiece_metadata(add_space_prefix=False)
    assert not TextTokenizer(bare).token_text(_first_id(bare)).startswith(" ")
    assert TextTokenizer(bare).decode(TextTokenizer(bare).encode(" a")) == " a"


def _first_id(metadata: dict[str, Any]) -> int:
    return TextTokenizer(metadata).encode("the", add_bos=False)[0]


def test_extra_spaces_go_where_the_file_says_so() -> None:
    ours = TextTokenizer(sentencepiece_metadata(remove_extra_whitespaces=True))
    assert ours.decode(ours.encode("  the   fox ")) == "the fox"


def test_bos_and_eos_stand_around_a_text_as_the_file_says() -> None:
    assert TextTokenizer(sentencepiece_metadata()).encode("a")[0] == 1  # SentencePiece's default
    ours = TextTokenizer(sentencepiece_metadata(add_bos_token=False, add_eos_token=True))
    assert (ours.encode("a")[0], ours.encode("a")[-1]) != (1, 1)
    assert ours.encode("a")[-1] == 2
    assert 2 not in ours.encode("a", add_bos=False)


def test_a_text_that_spells_its_bos_gets_no_second_one() -> None:
    ours = TextTokenizer(sentencepiece_metadata())
    assert ours.encode("<s>the") == ours.encode("<s>the", add_bos=False)
    assert ours.encode("<s>the").count(1) == 1
    assert ours.encode_up_to("<s>the", 100) == ours.encode("<s>the")


def test_a_text_that_spells_a_byte_is_not_that_byte() -> None:
    ours = TextTokenizer(sentencepiece_metadata())
    assert 3 + 0x07 not in ours.encode("<0x07>")
    assert 3 + 0x07 in ours.encode("a\x07b")


def test_every_end_of_turn_and_text_stops() -> None:
    tokens = ["<s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>", "<stop>", "a"]
    kinds = [3, 3, 3, 3, 1, 3, 3, 1]  # the spelling of an ordinary token stops nothing
    metadata: dict[str, Any] = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": kinds, "merges": []}
    metadata |= {"eos_token_id": 0, "eot_token_id": 6}
    ours = TextTokenizer({f"tokenizer.ggml.{name}": value for name, value in metadata.items()})
    assert (ours.eos_id, set(ours.stop_ids)) == (0, {0, 1, 2, 3, 5, 6})


def test_harmony_ends_no_answer_at_the_end_of_a_part() -> None:
    tokens = ["<|endoftext|>", "<|return|>", "<|call|>", "<|end|>", "a"]
    metadata = {"model": "gpt2", "pre": "gpt-4o", "tokens": tokens, "token_type": [3, 3, 3, 3, 1], "merges": []}
    ours = TextTokenizer({f"tokenizer.ggml.{name}": value for name, value in (metadata | {"eos_token_id": 0}).items()})
    assert ours.stop_ids == {0, 1, 2}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "bert"}, "'bert'"),
        ({"model": "gpt2", "pre": "kimi-k2"}, "'kimi-k2'"),
        ({"tokens": []}, "no vocabulary"),
        ({"token_type": [1, 1]}, "2 token types"),
        ({"scores": [1.0]}, "1 scores"),
        ({"eos_token_id": 99_999}, "eos is 99999"),
        ({"model": "gpt2", "pre": "gpt-2"}, "no merges"),
        ({"model": "gpt2", "pre": "gpt-2", "merges": ["ab"]}, "not two tokens"),
        ({"model": "gpt2", "pre": "gpt-2", "merges": ["nowhere tobefound"]}, "damaged"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value))[:30],
)
def test_a_damaged_or_unknown_vocabulary_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        TextTokenizer(sentencepiece_metadata(**changed))


def test_a_token_that_is_there_twice_is_refused() -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.tokens"][300] = metadata["tokenizer.ggml.tokens"][301]
    with pytest.raises(ModelFileError, match="twice"):
        TextTokenizer(metadata)


def test_a_vocabulary_without_an_end_is_refused() -> None:
    metadata = metadata_of(byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)), "gpt-2")
    del metadata["tokenizer.ggml.eos_token_id"]
    with pytest.raises(ModelFileError, match="end-of-sequence"):
        TextTokenizer(metadata)


def test_any_ids_in_any_order_stream_to_what_they_decode_to() -> None:
    # Bytes of SentencePiece may follow each other into what is no UTF-8; the library's own stream raises then.
    drawn = random.Random(7)
    for metadata in (sentencepiece_metadata(), sentencepiece_metadata(add_space_prefix=False)):
        ours = TextTokenizer(metadata)
        for _ in range(300):
            ids = [drawn.randrange(ours.vocab_size + 3) for _ in range(drawn.randrange(1, 12))]
            stream = ours.text_stream()
            assert "".join([*map(stream.push, ids), stream.flush()]) == ours.decode(ids)


def test_an_answer_that_goes_on_from_a_prompt_keeps_its_first_space() -> None:
    ours = TextTokenizer(sentencepiece_metadata())
    ids = ours.encode("the fox", add_bos=False)
    assert ours.decode(ids) == "the fox"
    stream = ours.text_stream(continues=True)
    assert "".join(map(stream.push, ids)) == " the fox"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ggml.tokens", 7),
        ("ggml.merges", [1, 2]),
        ("ggml.token_type", 3),
        ("ggml.eos_token_id", "x"),
        ("chat_template", 7),
        ("chat_template.tool_use", [1]),
    ],
)
def test_a_value_of_another_kind_is_damage(name: str, value: object) -> None:
    metadata = metadata_of(byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)), "gpt-2")
    with pytest.raises(ModelFileError, match=r"damaged|is no text"):
        TextTokenizer.of_gguf(metadata | {f"tokenizer.{name}": value})
