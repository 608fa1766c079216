"""Answers that follow a grammar and nothing else, over the default model's real vocabulary."""

from collections.abc import Callable
from typing import Protocol

import llguidance.numpy
import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.grammar.wording import worded
from genkan.upstream.tokenizer import TextTokenizer

_MAX_TOKENS = 300


class Babble(Protocol):
    """Text of random tokens that ``spec`` allows after ``begins``, and whether it came to its end in 300 of them.

    ``leaning`` are ids that are likely; from half of them on, those that close JSON are.
    """

    def __call__(
        self, spec: GrammarSpec, seed: int, *, begins: str = "", leaning: frozenset[int] = frozenset()
    ) -> tuple[str, bool]: ...


@pytest.fixture(scope="session")
def grammar_tokens(tokenizer: TextTokenizer) -> LLTokenizer:
    special = tokenizer.special_ids
    tokens = [tokenizer.token_bytes_of(index) for index in range(tokenizer.vocab_size)]
    return TokenTable(tokens, tokenizer.stop_ids, tokenizer.eos_id, special).tokenizer()


@pytest.fixture
def accepts(grammar_tokens: LLTokenizer, tokenizer: TextTokenizer) -> Callable[[GrammarSpec, str], bool]:
    """Whether a text can be the whole answer; special tokens are written as they are spelt."""

    def judged(spec: GrammarSpec, text: str) -> bool:
        matcher = _matcher(grammar_tokens, spec)
        ids = tokenizer.encode(text)
        return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())

    return judged


@pytest.fixture
def babble(grammar_tokens: LLTokenizer, tokenizer: TextTokenizer) -> Babble:
    closing = [tokenizer.token_id(text) for text in ('"', "}", "]", "0", '"}', "}}", "</")]
    ends = sorted(tokenizer.stop_ids)

    def text_of(
        spec: GrammarSpec, seed: int, *, begins: str = "", leaning: frozenset[int] = frozenset()
    ) -> tuple[str, bool]:
        matcher, random = _matcher(grammar_tokens, spec), np.random.default_rng(seed)
        mask = llguidance.numpy.allocate_token_bitmask(1, grammar_tokens.vocab_size)
        stream = tokenizer.text_stream(leaning)
        assert matcher.consume_tokens(tokenizer.encode(begins))
        said = begins
        for step in range(_MAX_TOKENS):
            llguidance.numpy.fill_next_token_bitmask(matcher, mask)
            allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: tokenizer.vocab_size].astype(bool)
            logits = random.normal(size=tokenizer.vocab_size) * 3
            logits[list(leaning)] += 9
            if step >= _MAX_TOKENS // 2:
                logits[[token for token in closing if token is not None]] += random.uniform(10, 30)
                logits[ends] += 25
            logits[~allowed] = -np.inf
            token = int(logits.argmax())
            if token in tokenizer.stop_ids:
                return said + stream.flush(), True
            assert matcher.consume_token(token), matcher.get_error()
            said += stream.push(token)
            if matcher.is_stopped():
                return said + stream.flush(), True
        return said + stream.flush(), False

    return text_of


def _matcher(tokens: LLTokenizer, spec: GrammarSpec) -> LLMatcher:
    text = worded(spec, lambda text: len(tokens.greedy_tokenize(text))).text
    matcher = LLMatcher(tokens, text, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher
