"""The tokenizer and chat template of the default model.

``tokenizer_oracle.json`` holds strings and the ids that llama.cpp's own tokenizer gives for them (llama-cpp-python
0.3.36, the same GGUF file, vocabulary only: ``tokenize(text, add_bos=False, special=True)``). In 9,000 random strings
and in every code point below U+32000 the two differ in one thing, which is left out of the table and tested on its
own here: see ``test_a_byte_without_a_token_is_dropped_before_merging``.
"""

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import sentencepiece_metadata

from genkan.errors import InvalidRequest, ModelFileError
from genkan.upstream.tokenizer import TextTokenizer

ORACLE: list[tuple[str, list[int]]] = json.loads(Path(__file__).with_name("tokenizer_oracle.json").read_bytes())
SPECIAL_IDS = range(17)  # SmolLM2's control tokens come first

TEXTS = [
    "The quick brown fox, it's 12:30.\n\n\tEnd.",
    "Người Việt Nam nói tiếng Việt.",
    unicodedata.normalize("NFD", "Người Việt Nam nói tiếng Việt."),
    "안녕하세요, 오늘 날씨가 어떻습니까?",
    unicodedata.normalize("NFD", "한국어"),
    "日本語のテキスト。中文，标点。",
    "👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇻🇳",
    "def f(x):\r\n    return {'é': [１, ٢, ½]}\n",
    "a\ufffdb \ufffd",
]


class CountingTokenizer:
    """Counts the characters that go through ``encode`` of the tokenizer it stands for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.chars = 0

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        self.chars += len(text)
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)


def pieces_of(tokenizer: TextTokenizer, ids: list[int]) -> tuple[list[str], str]:
    """What a stream gives for each of ``ids``, and at the end."""
    stream = tokenizer.text_stream()
    return [stream.push(token_id) for token_id in ids], stream.flush()


def with_metadata(**changed: Any) -> TextTokenizer:
    """A tokenizer of seven tokens; ``None`` takes a key out of its file. A ``__`` stands for a dot."""
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<|im_start|>", "<|im_end|>", "a", "b", "c", "ab", "<x>"],
        "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1, 4],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    metadata |= {name.replace("__", "."): value for name, value in changed.items()}
    return TextTokenizer({name: value for name, value in metadata.items() if value is not None})


@pytest.mark.parametrize(("text", "ids"), ORACLE, ids=[ascii(text)[:40] for text, _ in ORACLE])
def test_encode_gives_the_ids_that_llama_cpp_gives(tokenizer: TextTokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids


def test_a_byte_without_a_token_is_dropped_before_merging(tokenizer: TextTokenizer) -> None:
    # SmolLM2's vocabulary has no token for the bytes 04 06 13 14 16 1d f1 f2, and its model names no unknown token.
    # The tokenizers library, which trained it, drops such a byte and then merges its neighbours. llama.cpp drops it
    # after merging, so it gives "!", "!" here.
    assert tokenizer.encode("!\x04!") == tokenizer.encode("!!")
    assert len(tokenizer.encode("!!")) == 1
    assert tokenizer.encode("\x04") == []


@pytest.mark.parametrize(
    "text", [text for text, ids in ORACLE if not set(ids) & set(SPECIAL_IDS)], ids=lambda text: ascii(text)[:40]
)
def test_decode_gives_back_what_was_encoded(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_leaves_special_tokens_out(tokenizer: TextTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("<|im_start|>user\nHi<|im_end|>\n")) == "user\nHi\n"


def test_decode_marks_an_unfinished_character(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("ế")
    assert len(ids) > 1
    assert tokenizer.decode(ids[:-1]) == "\ufffd"


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_gives_the_text_of_every_beginning_of_the_ids(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    for end in range(len(ids) + 1):
        pieces, left = pieces_of(tokenizer, ids[:end])
        assert "".join(pieces) + left == tokenizer.decode(ids[:end])


@pytest.mark.parametrize("text", [text for text in TEXTS if "\ufffd" not in text])
def test_a_stream_never_splits_a_character(tokenizer: TextTokenizer, text: str) -> None:
    pieces, left = pieces_of(tokenizer, tokenizer.encode(text))
    assert not any("\ufffd" in piece for piece in pieces)
    assert left == ""


def test_the_texts_of_the_stream_tests_do_split_characters(tokenizer: TextTokenizer) -> None:
    # Without this, the test above could pass for a stream that decodes each id on its own.
    for text in TEXTS[1:7]:
        assert any("\ufffd" in tokenizer.decode([token_id]) for token_id in tokenizer.encode(text))


def test_a_stream_skips_special_tokens_between_text(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("ế<|im_end|>한<|im_start|>")
    pieces, left = pieces_of(tokenizer, ids)
    assert "".join(pieces) + left == "ế한"


def test_a_stream_gives_the_replacement_character_for_bytes_that_are_no_text(tokenizer: TextTokenizer) -> None:
    second_byte, letter = tokenizer.encode("ế")[-1], tokenizer.encode("a")
    ids = [second_byte, *letter, second_byte]
    pieces, left = pieces_of(tokenizer, ids)
    assert "".join(pieces) + left == tokenizer.decode(ids) == "\ufffda\ufffd"


def test_a_flushed_stream_has_nothing_left(tokenizer: TextTokenizer) -> None:
    stream = tokenizer.text_stream()
    stream.push(tokenizer.encode("ế")[0])
    assert (stream.flush(), stream.flush()) == ("\ufffd", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "word " * 20_000,
        "x" * 100_000,
        "12345\n" * 12_000,
        "<|im_start|>user\n" * 6_000,
        "한국어 " * 30_000,
    ],
    ids=["empty", "short", "words", "one word", "digits", "special tokens", "Korean"],
)
def test_encode_up_to_is_exact_when_the_ids_are_within_the_limit(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.encode_up_to(text, len(ids)) == ids
    assert tokenizer.encode_up_to(text, len(ids) + 1) == ids


@pytest.mark.parametrize("text", ["word " * 200_000, "x" * 2_000_000, " " * 2_000_000, "12345\n" * 50_000])
@pytest.mark.parametrize("limit", [0, 100, 8192])
def test_encode_up_to_gives_more_ids_than_the_limit_when_there_are_more(
    tokenizer: TextTokenizer, text: str, limit: int
) -> None:
    assert len(tokenizer.encode_up_to(text, limit)) > limit


def test_encode_up_to_gives_the_ids_of_a_beginning_of_the_text(tokenizer: TextTokenizer) -> None:
    text = "".join(f"{number} words\n" for number in range(100_000))
    ids = tokenizer.encode_up_to(text, 8192)
    assert text.startswith(tokenizer.decode(ids))


@pytest.mark.parametrize(
    ("unit", "most_chars_a_token"),
    [("The quick brown fox. ", 5.5), ("1", 1), ("한국어 텍스트", 1), ("<|im_end|>", 10), (" ", 81)],
    ids=["English", "digits", "Korean", "special tokens", "spaces"],
)
def test_encode_up_to_reads_little_of_a_text_far_beyond_the_limit(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, unit: str, most_chars_a_token: float
) -> None:
    text = (unit * (4_000_000 // len(unit) + 1))[:4_000_000]
    counting = CountingTokenizer(tokenizer._tokenizer)
    monkeypatch.setattr(tokenizer, "_tokenizer", counting)
    ids = tokenizer.encode_up_to(text, 8192)
    assert len(ids) > 8192
    needed = 8192 * most_chars_a_token
    # Some slices more, because a cut may add ids.
    assert counting.chars <= needed * 1.25 + 3 * (1 << 15)
    assert counting.chars < len(text) / 2


def test_bos_stands_first_only_where_the_file_asks_for_it() -> None:
    assert with_metadata().encode("abc") == [5, 4]
    assert with_metadata(tokenizer__ggml__add_bos_token=True).encode("abc") == [0, 5, 4]


@pytest.mark.parametrize(("pre", "ids"), [("smollm", [2, 3, 4]), ("gpt-2", [5, 4])])
def test_the_pre_tokenizer_decides_whether_digits_are_merged(pre: str, ids: list[int]) -> None:
    small = with_metadata(
        tokenizer__ggml__pre=pre,
        tokenizer__ggml__tokens=["<|im_start|>", "<|im_end|>", "1", "2", "a", "12"],
        tokenizer__ggml__token_type=[3, 3, 1, 1, 1, 1],
        tokenizer__ggml__merges=["1 2"],
    )
    assert small.encode("12a") == ids


def test_every_end_of_turn_token_of_the_vocabulary_stops(tokenizer: TextTokenizer) -> None:
    assert tokenizer.stop_ids == {0, 2}  # <|endoftext|> and <|im_end|>


def test_a_user_defined_token_is_one_id_and_is_text() -> None:
    small = with_metadata()
    assert small.encode("a<x>b") == [2, 6, 3]
    assert small.decode([2, 6, 3]) == "a<x>b"


def test_the_vocabulary_size_counts_every_token(tokenizer: TextTokenizer) -> None:
    assert tokenizer.vocab_size == 49_152


def test_the_chat_template_writes_a_default_system_message_when_none_is_given(tokenizer: TextTokenizer) -> None:
    prompt = tokenizer.render_chat(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": " Việt\n"},
        ]
    )
    assert prompt == (
        "<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\n Việt\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_chat_template_writes_the_system_message_that_is_given(tokenizer: TextTokenizer) -> None:
    prompt = tokenizer.render_chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chat_template_sees_the_special_tokens_and_may_use_loop_controls() -> None:
    template = (
        "{{ bos_token }}\n    {% for m in messages %}\n{{ m.role }}{% break %}\n    {% endfor %}\n{{ eos_token }}"
    )
    small = with_metadata(tokenizer__chat_template=template)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert small.render_chat(messages) == "<|im_start|>\nuser<|im_end|>"


@pytest.mark.parametrize(("kind", "pre"), [("gpt2", "kimi-k2"), ("gpt2", None), ("bert", "smollm"), (None, "smollm")])
def test_an_unknown_tokenizer_is_an_error_that_names_it(kind: str | None, pre: str | None) -> None:
    with pytest.raises(ModelFileError) as caught:
        with_metadata(tokenizer__ggml__model=kind, tokenizer__ggml__pre=pre)
    assert repr(kind) in str(caught.value)
    assert repr(pre) in str(caught.value)
    assert "'smollm'" in str(caught.value)


@pytest.mark.parametrize("template", [None, ""])
def test_a_model_without_a_chat_template_does_not_chat(template: str | None) -> None:
    small = with_metadata(tokenizer__chat_template=template)
    assert (small.has_template, small.template_source, small.encode("abc")) == (False, "", [5, 4])
    with pytest.raises(InvalidRequest, match="no chat template") as caught:
        small.render_chat([{"role": "user", "content": "a"}])
    assert (caught.value.param, caught.value.status) == ("messages", 400)


def test_a_file_may_hold_a_template_for_tools() -> None:
    small = with_metadata(tokenizer__chat_template__tool_use="tools")
    assert small.template_takes_tools
    assert small.render_chat([{"role": "user", "content": "a"}], tools=[{}]) == "tools"
    assert small.render_chat([{"role": "user", "content": "a"}]) == "a"


def test_the_bytes_of_all_tokens_put_together_are_the_text(tokenizer: TextTokenizer) -> None:
    pieces = tokenizer.token_bytes()
    assert len(pieces) == tokenizer.vocab_size
    for text in TEXTS:
        assert b"".join(pieces[token_id] for token_id in tokenizer.encode(text)) == text.encode()


def test_a_part_of_a_character_has_bytes_and_a_text_of_its_own(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("ế")
    assert b"".join(map(tokenizer.token_bytes_of, ids)) == "ế".encode()
    assert len(ids) > 1
    assert [tokenizer.token_text(token_id) for token_id in ids[-1:]] == ["\ufffd"]


def test_a_special_token_has_a_spelling_and_adds_nothing_to_a_text(tokenizer: TextTokenizer) -> None:
    end = tokenizer.token_id("<|im_end|>")
    assert end is not None
    assert tokenizer.token_bytes()[end] == b""
    assert (tokenizer.token_bytes_of(end), tokenizer.token_text(end)) == (b"<|im_end|>", "<|im_end|>")
    assert tokenizer.special_ids == set(SPECIAL_IDS)
    assert tokenizer.token_id("<|no_such|>") is None


def test_a_stream_shows_the_special_tokens_it_is_asked_to(tokenizer: TextTokenizer) -> None:
    start, end = tokenizer.encode("<|im_start|><|im_end|>")
    stream = tokenizer.text_stream(frozenset({end}))
    assert [stream.push(token_id) for token_id in (start, *tokenizer.encode("a"), end)] == ["", "a", "<|im_end|>"]


def test_an_id_without_a_token_adds_nothing(tokenizer: TextTokenizer) -> None:
    beyond = tokenizer.vocab_size
    assert tokenizer.decode([*tokenizer.encode("a"), beyond, -1, *tokenizer.encode("b")]) == "ab"
    assert (tokenizer.token_bytes_of(beyond), tokenizer.token_bytes_of(-1), tokenizer.token_text(beyond)) == (
        b"",
        b"",
        "",
    )


def test_the_text_is_what_the_tokenizers_library_decodes(tokenizer: TextTokenizer) -> None:
    drawn = random.Random(3)
    for _ in range(300):
        ids = [drawn.randrange(tokenizer.vocab_size) for _ in range(20)]
        assert tokenizer.decode(ids) == tokenizer._tokenizer.decode(ids, skip_special_tokens=True)


def test_a_chat_template_that_is_no_template_is_an_error() -> None:
    with pytest.raises(ModelFileError, match="chat template cannot be read"):
        with_metadata(tokenizer__chat_template="{% for %}")


def test_a_chat_template_may_refuse_the_messages() -> None:
    template = "{% if messages[0].role != 'user' %}{{ raise_exception('the user speaks first') }}{% endif %}ok"
    small = with_metadata(tokenizer__chat_template=template)
    assert small.render_chat([{"role": "user", "content": "a"}]) == "ok"
    with pytest.raises(InvalidRequest, match="the user speaks first") as caught:
        small.render_chat([{"role": "assistant", "content": "a"}])
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__ }}{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ ('{0.__class__.__init__.__globals__}' | string).format(raise_exception) }}",
        "{{ (messages[0] | attr('__class__')).__name__ }}",
        "{% set _ = messages.append('x') %}{{ messages }}",
        "{% set _ = messages[0].update(role='system') %}{{ messages }}",
    ],
)
def test_a_chat_template_cannot_leave_its_sandbox(template: str) -> None:
    small = with_metadata(tokenizer__chat_template=template)
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(InvalidRequest):
        small.render_chat(messages)
    assert messages == [{"role": "user", "content": "a"}]


def test_a_chat_template_can_read_no_file() -> None:
    small = with_metadata(tokenizer__chat_template="{% include '/etc/hostname' %}")
    with pytest.raises(InvalidRequest, match="no loader"):
        small.render_chat([{"role": "user", "content": "a"}])


# Going on from a text


def gone_on(tokenizer: TextTokenizer, prompt: str, text: str, *, as_ids: bool = False, **options: Any) -> list[int]:
    ids = tokenizer.encode(prompt)
    after = tokenizer.encode_after(ids, None if as_ids else prompt, text, 1000, **options)
    stream = tokenizer.text_stream(continues=True)
    assert "".join([*map(stream.push, after), stream.flush()]) in (text, f" {text}")
    return after


@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_goes_on_as_the_whole_is_encoded_or_by_itself(tokenizer: TextTokenizer, text: str, as_ids: bool) -> None:
    for place in range(1, len(text)):
        prompt, rest = text[:place], text[place:]
        ids, whole = tokenizer.encode(prompt), tokenizer.encode(text)
        begins_so = whole[: len(ids)] == ids
        if "\ufffd" not in text and "<|" not in text:
            expected = whole[len(ids) :] if begins_so else tokenizer.encode(rest)
            assert gone_on(tokenizer, prompt, rest, as_ids=as_ids) == expected


@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_no_space_comes_into_a_text_that_goes_on(exact: bool, as_ids: bool) -> None:
    tokenizer = TextTokenizer(sentencepiece_metadata(add_bos_token=True))
    sentence = "The quick brown fox jumps over the lazy dog, it's 12:30\nand they'll be late."
    for place in range(1, len(sentence)):
        prompt, rest = sentence[:place], sentence[place:]
        after = gone_on(tokenizer, prompt, rest, as_ids=as_ids, exact=exact)
        assert b"".join(map(tokenizer.token_bytes_of, after)) == rest.encode()


def test_after_a_special_token_a_first_space_may_be_the_tokenizers_own_unless_told_otherwise() -> None:
    tokenizer = TextTokenizer(sentencepiece_metadata())
    assert tokenizer.token_bytes_of(gone_on(tokenizer, "over</s>", "the lazy dog")[0])[:1] == b" "
    assert tokenizer.token_bytes_of(gone_on(tokenizer, "over</s>", "the lazy dog", exact=True)[0])[:1] == b"t"


def test_a_space_before_an_unfinished_character_waits_for_it(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("Thủ đô")
    pieces = [*map((stream := tokenizer.text_stream()).push, ids), stream.flush()]
    assert "".join(pieces) == "Thủ đô"
    assert not any(piece.endswith(" ") for piece in pieces)
    stream = tokenizer.text_stream()
    place = next(place for place, each in enumerate(ids) if tokenizer.token_bytes_of(each) == b" \xc4")
    assert [*map(stream.push, ids[: place + 1])][-1] == ""
    assert stream.flush() == " \ufffd"
