"""What limits and budgets are told of texts before anybody has counted their tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.config import EmbedderConfig, PricesConfig
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.estimate import Size
from genkan.gateway.prices import PriceBook

ELSEWHERE = "upstream:u/vendor/text-embedding"


def a_model(*prices: dict[str, Any], **config: Any) -> EmbeddingModel:
    book = PriceBook(PricesConfig.model_validate({"models": list(prices)}))
    return EmbeddingModel(EmbedderConfig.model_validate({"name": "e", **config}), book)


def test_a_size_counts_what_is_put_before_each_text() -> None:
    assert a_model(prefix="q: ").size_of(["abc", "đó"]) == Size(
        ascii=3 + 2 * 3, other=4, messages=2, images=0, tokens=0
    )
    assert a_model(prefix="").size_of(["abc"]).ascii == 3


@given(st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=20), st.sampled_from(["", "query: "]))
def test_the_bound_is_no_less_than_a_token_for_each_byte(texts: list[str], prefix: str) -> None:
    model = a_model({"model": "vendor/text-embedding", "flat": 1.0}, model=ELSEWHERE, prefix=prefix)
    amounts = model.amounts(model.size_of(texts))
    assert amounts.budget_tokens >= sum(len((prefix + text).encode("utf-8", "surrogatepass")) for text in texts)
    assert amounts.budget_nano_usd == 1000 * amounts.budget_tokens
    assert 1 <= amounts.tokens <= amounts.budget_tokens


@pytest.mark.parametrize(("where", "bound"), [({}, 2 * 512), ({"max_tokens": 100}, 2 * 100)])
def test_our_own_model_reads_no_more_of_a_text_than_it_may(where: dict[str, Any], bound: int) -> None:
    model = a_model(**where)
    amounts = model.amounts(model.size_of(["x" * 10_000] * 2))
    assert (amounts.tokens, amounts.budget_tokens) == (bound, bound)


@pytest.mark.parametrize(
    ("config", "deployment", "pico_usd"),
    [
        ({}, "e@embedder", 3_000_000),
        ({"model": "/models/bge"}, "e@embedder", 3_000_000),
        ({"model": ELSEWHERE}, "e@u", 2_000_000),
        ({"model": "upstream:v/vendor/text-embedding"}, "e@v", 1_000_000),
        ({"model": "upstream:v/other"}, "e@v", 3_000_000),
    ],
)
def test_its_price_is_that_of_where_it_is(config: dict[str, Any], deployment: str, pico_usd: int) -> None:
    model = a_model(
        {"model": "vendor/text-embedding", "flat": 1.0},
        {"model": "vendor/text-embedding", "upstream": "u", "flat": 2.0},
        {"model": "e", "flat": 3.0},
        **config,
    )
    assert model.deployment == deployment
    assert model.price is not None
    assert model.price.input_pico_usd == pico_usd


@pytest.mark.parametrize("config", [{}, {"model": "upstream:u/vendor/text-embedding"}])
def test_what_has_no_price_takes_no_money_of_a_budget(config: dict[str, Any]) -> None:
    model = a_model(**config)
    assert model.amounts(model.size_of(["text"])).budget_nano_usd == 0
    assert (model.price is None) == bool(config)  # our own costs nothing, what another takes is not known
