"""Grammars over the real model's vocabulary, made once: they keep nothing of a test but what they compiled."""

from collections.abc import Iterator

import pytest
from grammar_rigs import Writer, grammars, real_table

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.token_table import TokenTable


@pytest.fixture(scope="session")
def table() -> TokenTable:
    return real_table()


@pytest.fixture(scope="session")
def real(table: TokenTable) -> Iterator[Grammars]:
    made = grammars(table)
    yield made
    made.close()


@pytest.fixture
def writer(table: TokenTable) -> Writer:
    return Writer(table)
