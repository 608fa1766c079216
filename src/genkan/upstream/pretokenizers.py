"""How a byte-level vocabulary's text was cut into words before its merges were learned.

A GGUF file only names it (``tokenizer.ggml.pre``); a wrong one gives ids that the model was never trained on, without
any error. So the names here are those whose rules are known from the tokenizers they were taken from, and any other
name is refused.

Sources: the regular expressions of each family's ``tokenizer.json`` (quoted beside llama.cpp's own in its
``llama-vocab.cpp``, which also says which names share one, and who has ``ignore_merges`` and a BOS by default), and
transformers' ``Qwen2Tokenizer`` for the normalisation to NFC, which llama.cpp leaves out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"


@dataclass(frozen=True, slots=True)
class Words:
    """One way of cutting text into words.

    ``takes_whole`` says that a word which is a token becomes it, whatever the merges would make of it. ``has_bos`` is
    whether a BOS stands first where the file does not say; ``nfc`` whether text is normalised to NFC before.
    """

    build: Callable[[], PreTokenizer]
    takes_whole: bool = False
    has_bos: bool = False
    nfc: bool = False


def _split(*patterns: str) -> Callable[[], PreTokenizer]:
    """Cut at every match of the first pattern, then the pieces at every match of the next."""

    def build() -> PreTokenizer:
        steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*steps, as_bytes])

    return build


def _gpt2() -> PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _digits_then_gpt2() -> PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, _gpt2()])


def _cl100k(digits: str, *, letters: str = r"\p{L}", marks: str = "") -> Callable[[], PreTokenizer]:
    """OpenAI's cl100k and its kin: they differ in how many digits make a word and whether marks are letters."""
    word = rf"[^\r\n\p{{L}}\p{{N}}]?{letters}+"
    return _split(rf"{_CONTRACTION}|{word}|{digits}| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|{_SPACES}")


def _o200k(digits: str, contraction: str) -> Callable[[], PreTokenizer]:
    """OpenAI's o200k and its kin: a word ends where small letters are followed by capital ones."""
    return _split(rf"{_CASED % (contraction, contraction)}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}")


_GPT2 = Words(_gpt2)
_DIGITS_GPT2 = Words(_digits_then_gpt2)
_LLAMA3 = Words(_cl100k(r"\p{N}{1,3}"), takes_whole=True, has_bos=True)
_DBRX = Words(_cl100k(r"\p{N}{1,3}"))
_QWEN2 = Words(_cl100k(r"\p{N}"), nfc=True)
_QWEN35 = Words(_cl100k(r"\p{N}", letters=r"[\p{L}\p{M}]", marks=r"\p{M}"), nfc=True)
_TEKKEN = Words(_o200k(r"\p{N}", ""), takes_whole=True, has_bos=True)
_GPT4O = Words(_o200k(r"\p{N}{1,3}", f"{_CONTRACTION}?"))
_DEEPSEEK_V3 = Words(
    _split(
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
    )
)

#: By ``tokenizer.ggml.pre``.
WORDS: dict[str, Words] = {
    "deepseek-r1-qwen": _QWEN2,
    "deepseek-v3": _DEEPSEEK_V3,
    "dbrx": _DBRX,
    "gpt-2": _GPT2,
    "gpt-4o": _GPT4O,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "llama4": _GPT4O,
    "phi-2": _GPT2,
    "qwen2": _QWEN2,
    "qwen35": _QWEN35,
    "refact": _DIGITS_GPT2,
    "smaug-bpe": _DBRX,
    "smollm": _DIGITS_GPT2,
    "starcoder": _DIGITS_GPT2,
    "tekken": _TEKKEN,
}
