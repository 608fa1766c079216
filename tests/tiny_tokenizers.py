"""Tiny tokenizers trained on a few sentences, and the key-values that a GGUF file would hold of them."""

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, it's 12:30 and they'll be late.",
    "Người Việt Nam nói tiếng Việt. Hà Nội là thủ đô của Việt Nam.",
    "안녕하세요, 오늘 날씨가 어떻습니까? 한국어 텍스트입니다.",
    "日本語のテキスト。中文，标点。",
    "def f(x):\n    return {'a': [1, 2, 3], 'b': x ** 2}\n\n\n",
    "👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇻🇳 héllo naïve Ünïcode camelCase HTTPServer XMLFile",
]

TEXTS = [
    *SENTENCES,
    "",
    " ",
    "  two  spaces \n\n and\tlines\r\n\r\n  ",
    "I'LL don't 1234567 ½ ٣٤ １２ x² Ⅷ",
    "e\u0301 Vie\u0302\u0323t \u1112\u1161\u11ab",
    "ﬁ ㎏ \u200b\ufeff\x00\x07 ▁ <0x0A> \ufffd",
    "<|im_start|>user\nHi<|im_end|>  <x>y",
]

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(pre: pre_tokenizers.PreTokenizer, **options: Any) -> Tokenizer:
    """A byte-level BPE of about 600 tokens with that pre-tokenizer, three special tokens and one that is text."""
    tokenizer = Tokenizer(BPE(**options))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    tokenizer.add_tokens([AddedToken("<x>", normalized=False)])
    return tokenizer


def metadata_of(tokenizer: Tokenizer, pre: str, **more: Any) -> dict[str, Any]:
    """The same tokenizer as a GGUF file has it. ``more`` are keys without ``tokenizer.ggml.``."""
    listed = _listed(tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    kinds = [1 if place not in added else 3 if added[place].special else 4 for place in range(len(listed))]
    values = {"model": "gpt2", "pre": pre, "tokens": listed, "token_type": kinds, "eos_token_id": 0, "bos_token_id": 0}
    values |= {"merges": [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]} | more
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


@cache  # training is not the same twice
def sentencepiece() -> tuple[dict[str, int], list[float], list[int]]:
    """A vocabulary as SentencePiece trains one: its tokens, their scores, their types; bytes for what it lacks."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        limit_alphabet=90,
        show_progress=False,
        max_token_length=12,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    listed = _listed(tokenizer)
    learned = len(listed) - 259
    scores = [0.0] * 259 + [-float(rank) for rank in range(learned)]
    return {token: place for place, token in enumerate(listed)}, scores, [2, 3, 3] + [6] * 256 + [1] * learned


def sentencepiece_metadata(**more: Any) -> dict[str, Any]:
    """``sentencepiece`` as a GGUF file has it. ``more`` are keys without ``tokenizer.ggml.``."""
    vocabulary, scores, kinds = sentencepiece()
    values = {"model": "llama", "pre": "default", "tokens": [*vocabulary], "scores": [*scores]}
    values["token_type"] = [*kinds]
    values |= {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0} | more
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


def _listed(tokenizer: Tokenizer) -> list[str]:
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(vocabulary, key=lambda token: vocabulary[token])
