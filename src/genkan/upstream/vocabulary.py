"""What a model's tokenizer is, wherever it was read from.

`gguf_tokenizer` and `hf_tokenizer` read it; `tokenizer` uses it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from tokenizers import Tokenizer

from genkan.errors import ModelFileError

#: Spellings of tokens that end a turn or a text, whichever family they are of: a model stops on each that it has.
_ENDS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<EOT>",
    "[EOT]",
    "</s>",
    "<｜end▁of▁sentence｜>",
)


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A tokenizer with all that stands beside it in a model's files. Read-only.

    ``texts`` are the bytes that each id stands for, a special token's spelling included; an id without any is empty.
    ``special_ids`` add nothing to a model's text. ``before`` and ``after`` are the ids around a whole text.
    ``drops_first_space`` says that a text's first space is the tokenizer's own and not the text's. ``named_tokens``
    are the spellings that templates use, such as ``bos_token``; ``templates`` the chat templates by name, the usual
    one being ``default``.
    """

    tokenizer: Tokenizer
    texts: list[bytes]
    special_ids: frozenset[int]
    stop_ids: frozenset[int]
    eos_id: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    drops_first_space: bool = False
    named_tokens: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Makes whatever a damaged file brings about a ModelFileError that names ``what``.

    Its values may be of any type at any depth, and the tokenizers library raises what is no narrower than Exception;
    where it panics, what Python sees is a BaseException.
    """
    try:
        yield
    except (ModelFileError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ModelFileError(f"{what} is damaged: {type(error).__name__}: {error}") from error


def end_ids(ids: Mapping[str, int], special_ids: Collection[int]) -> frozenset[int]:
    """The special tokens that end an answer, by their spelling.

    OpenAI's harmony format writes ``<|end|>`` between an answer's parts, so beside a ``<|return|>`` it ends nothing.
    """
    ends = {name: ids[name] for name in _ENDS if ids.get(name) in special_ids}
    if "<|return|>" in ends:
        ends.pop("<|end|>", None)
    return frozenset(ends.values())


@cache
def byte_alphabet() -> dict[str, int]:
    """The characters that byte-level vocabularies write bytes with, from GPT-2: printable Latin-1 stands for itself."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


def byte_level_bytes(token: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary; of one that is not written in the alphabet, its UTF-8."""
    try:
        return token.translate(_byte_characters()).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


@cache
def _byte_characters() -> dict[int, str]:
    """To the alphabet's characters those of their bytes; to other Latin-1 ones, one that is not Latin-1."""
    bare = dict.fromkeys(range(256), "\U0010ffff")
    return bare | {ord(character): chr(byte) for character, byte in byte_alphabet().items()}


def sentencepiece_bytes(token: str, *, with_bytes: bool = True) -> bytes:
    """The bytes of a token of a SentencePiece vocabulary: ``▁`` is a space and, ``with_bytes``, ``<0x0A>`` one byte."""
    if with_bytes and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes.fromhex(token[3:5])
        except ValueError:
            pass
    return token.replace("▁", " ").encode()


def repeated(tokens: Sequence[str]) -> str | None:
    """The first token that is there twice."""
    if len(set(tokens)) == len(tokens):
        return None
    return next(token for token, times in Counter(tokens).items() if times > 1)
