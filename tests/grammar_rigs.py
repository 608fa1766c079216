"""What grammar tests need: the real model's vocabulary, and answers that are drawn at random."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from genkan.bench.grammar import Tally, random_logits, table_of, written
from genkan.engine.config import EngineConfig
from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.matcher import Matcher
from genkan.engine.grammar.observer import GrammarObserver
from genkan.engine.grammar.spec import GrammarKind, GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.load import gguf
from genkan.engine.load.source import locate
from genkan.upstream.tokenizer import TextTokenizer

PADDING = 64  # rows of a head beyond the vocabulary


@cache
def real_table() -> TokenTable:
    """That of the model which every checkout has."""
    return table_of(TextTokenizer(gguf.read_metadata(locate(EngineConfig().model))))


def grammars(
    table: TokenTable,
    *,
    timeout_s: float = 10,
    max_bytes: int = 1 << 16,
    cache: int = 64,
    observer: GrammarObserver | None = None,
) -> Grammars:
    return Grammars(
        table,
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        cache=cache,
        vocab_size=len(table.tokens) + PADDING,
        observer=observer,
    )


def spec(schema: dict[str, Any]) -> GrammarSpec:
    return GrammarSpec("json_schema", json.dumps(schema))


def text_spec(kind: GrammarKind, text: str) -> GrammarSpec:
    return GrammarSpec(kind, text)


class Writer:
    """Writes answers of random tokens."""

    def __init__(self, table: TokenTable, seed: int = 0) -> None:
        self.table = table
        self.tally = Tally()
        self._rows = random_logits(seed, len(table.tokens) + PADDING)

    def rows(self) -> Iterator[npt.NDArray[np.float32]]:
        return self._rows

    def text(self, matcher: Matcher, max_tokens: int = 256) -> tuple[bytes, bool]:
        """An answer and whether it came to an end."""
        tokens, has_finished = written(matcher, self._rows, self.table, max_tokens, self.tally)
        return b"".join(self.table.tokens[token] for token in tokens), has_finished

    def value(self, matcher: Matcher, max_tokens: int = 256) -> Any:
        """What a finished answer is as JSON."""
        text, has_finished = self.text(matcher, max_tokens)
        assert has_finished, text
        return json.loads(text.decode())


def allowed(matcher: Matcher, vocab_size: int) -> set[int]:
    """The ids that may come next."""
    row = np.zeros(vocab_size, np.float32)
    matcher.mask(row)
    return set(np.flatnonzero(row > -np.inf).tolist())
