"""What requests cost, to the last digit."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genkan.config import PricesConfig
from genkan.errors import ConfigError
from genkan.gateway.prices import Price, PriceBook, usd_per_mtok
from genkan.wire.usage import Usage

SHIPPED = Path(__file__).parents[3] / "configs/prices.yaml"
TODAY = date(2026, 11, 21)


def book(*models: dict[str, Any], usd_per: dict[str, Any] | None = None) -> PriceBook:
    return PriceBook(PricesConfig.model_validate({"models": list(models), "usd_per": usd_per or {}}), today=TODAY)


def price_of(**fields: Any) -> Price:
    found = book({"model": "m", **fields}).price("m")
    assert found is not None
    return found


def shipped() -> PriceBook:
    return PriceBook(PricesConfig.model_validate(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))), today=TODAY)


def shipped_price(model: str, upstream: str = "", name_there: str = "") -> Price:
    found = shipped().price(model, upstream=upstream, name_there=name_there)
    assert found is not None
    return found


GOLDEN: list[tuple[str, str, dict[str, Any], int]] = [
    # 86 fresh at 2, 1,920 cached at 0.50, 300 out at 8 dollars per million
    (
        "gpt-4.1",
        "openai",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 256},
        },
        172_000 + 960_000 + 2_400_000,
    ),
    # 36 at 0.28, 64 at 0.028, 7 at 0.42: 10,080 + 1,792 + 2,940
    (
        "deepseek-v3.2",
        "deepseek",
        {"prompt_tokens": 100, "completion_tokens": 7, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        14_812,
    ),
    # 21 at 3, 5,000 read at 0.30, 188 written at 3.75, 393 out at 15
    (
        "claude-sonnet-4.5",
        "anthropic",
        {
            "input_tokens": 21,
            "output_tokens": 393,
            "cache_read_input_tokens": 5000,
            "cache_creation_input_tokens": 188,
        },
        63_000 + 1_500_000 + 705_000 + 5_895_000,
    ),
    # 8 at 0.30, 2 said and 303 thought at 2.50
    (
        "gemini-2.5-flash",
        "gemini",
        {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 313},
        2_400 + 762_500,
    ),
    # a flat price: 30 tokens at 8, whatever is cached
    (
        "gpt-4.1",
        "holysheep",
        {"prompt_tokens": 20, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 16}},
        240_000,
    ),
    ("smollm2-135m-instruct", "engine", {"prompt_tokens": 500, "completion_tokens": 500}, 0),
]


@pytest.mark.parametrize(("model", "upstream", "raw", "nano_usd"), GOLDEN, ids=[f"{row[0]}@{row[1]}" for row in GOLDEN])
def test_what_providers_report_costs_what_they_list(
    model: str, upstream: str, raw: dict[str, Any], nano_usd: int
) -> None:
    usage = Usage.read(raw)
    assert usage is not None
    cost = shipped_price(model, upstream).nano_usd(usage)
    assert (cost, type(cost)) == (nano_usd, int)


@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("gpt-4.1", 8),
        ("claude-sonnet-4.5", 15),
        ("gemini-2.5-flash", 2.5),
        ("deepseek-v3.2", 0.42),
        ("gpt-4.1-mini", 2),
        ("gpt-4o", 15),
        ("deepseek-r1", 0.42),
        ("deepseek-chat", 0.42),
        ("deepseek-reasoner", 0.42),
        ("claude-3-5-sonnet", 15),
        ("gemini-2.0-flash", 2.5),
        ("smollm2-135m-instruct", 0),
    ],
)
def test_the_common_list_is_shipped(name: str, flat: float) -> None:
    for upstream in ("", "holysheep"):
        listed = shipped_price(name, upstream).flat_pico_usd
        assert listed is not None
        assert usd_per_mtok(listed) == flat


def test_the_shipped_list_prices_every_model_of_the_shipped_configurations() -> None:
    for name in ("local", "providers"):
        settings = yaml.safe_load((SHIPPED.parent / f"{name}.yaml").read_text(encoding="utf-8"))
        for model in settings["models"]:
            for place in model.get("deployments", [{"upstream": model.get("upstream")}]):
                shipped_price(model["name"], place["upstream"], place.get("model", model["name"]))


def test_the_sum_is_rounded_once_and_half_up() -> None:
    price = price_of(flat=0.0005)  # 500 trillionths a token, so two tokens are a billionth
    assert [price.nano_usd(Usage(tokens, 0)) for tokens in range(5)] == [0, 1, 1, 2, 2]
    assert price.nano_usd(Usage(1, 1)) == 1  # and not 1 + 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input": 1, "output": 2}, (1, 2, 1, 1)),
        ({"input": 1, "output": 2, "flat": 9}, (1, 2, 1, 1)),
        ({"flat": 9}, (9, 9, 9, 9)),
        ({"output": 2, "flat": 9}, (9, 2, 9, 9)),
        ({"input": 1, "output": 2, "cached_input": 0, "cache_write": 3}, (1, 2, 0, 3)),
    ],
)
def test_what_is_not_listed_costs_what_is(fields: dict[str, Any], expected: tuple[int, ...]) -> None:
    price = price_of(**fields)
    billed = (price.input_pico_usd, price.output_pico_usd, price.cached_input_pico_usd, price.cache_write_pico_usd)
    assert billed == tuple(dollars * 10**6 for dollars in expected)


def test_names_are_looked_up_from_the_most_particular_to_the_most_general() -> None:
    rows = [
        {"model": "model", "flat": 4},
        {"model": "there", "flat": 3},
        {"model": "model", "upstream": "u", "flat": 2},
        {"model": "there", "upstream": "u", "flat": 1},
    ]
    for first in range(4, 0, -1):
        found = book(*rows[:first]).price("model", upstream="u", name_there="there")
        assert found is not None
        assert found.flat_pico_usd == (5 - first) * 10**6
    assert book(*rows[2:]).price("model", upstream="v", name_there="there") is None


def test_an_alias_is_a_name_and_what_only_begins_alike_is_not() -> None:
    prices = book({"model": "gpt-4.1", "aliases": ["gpt-4.1-2025-04-14"], "flat": 8})
    assert prices.price("gpt-4.1-2025-04-14") == prices.price("gpt-4.1") is not None
    for name in ("gpt-4.1-mini", "gpt-4", "GPT-4.1", "openai/gpt-4.1", ""):
        assert prices.price(name) is None
    assert prices.price("ours", name_there="gpt-4.1") is not None


def test_the_newest_price_that_has_begun_counts() -> None:
    rows = [
        {"model": "m", "flat": 1},
        {"model": "m", "flat": 3, "since": "2026-11-21"},
        {"model": "m", "flat": 4, "since": "2026-11-22"},
        {"model": "m", "flat": 2, "since": "2026-01-01"},
        {"model": "m", "upstream": "u", "flat": 9, "since": "2030-01-01"},
    ]
    prices = book(*rows)
    found = prices.price("m", upstream="u")
    assert found is not None
    assert found.flat_pico_usd == 3 * 10**6
    assert list(prices) == [found]
    assert list(PriceBook(PricesConfig.model_validate({"models": rows[2:3]}), today=TODAY)) == []


def test_of_equally_new_prices_the_first_counts() -> None:
    for since in ({}, {"since": "2026-01-01"}):
        rows = [{"model": "m", "flat": 1, **since}, {"model": "n", "aliases": ["m"], "flat": 2, **since}]
        found = book(*rows).price("m")
        assert found is not None
        assert found.flat_pico_usd == 10**6


def test_other_currencies_are_turned_into_dollars() -> None:
    prices = book({"model": "m", "input": 2, "output": 3, "currency": "CNY"}, usd_per={"CNY": 0.137})
    price = prices.price("m")
    assert price is not None
    assert (price.input_pico_usd, price.output_pico_usd) == (274_000, 411_000)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"model": "m", "flat": 1, "currency": "EUR"}, "prices.models[1].currency"),
        ({"model": "m"}, "prices.models[1]"),
        ({"model": "m", "input": 1}, "prices.models[1]"),
        ({"model": "m", "cached_input": 1, "output": 1}, "prices.models[1]"),
    ],
)
def test_an_entry_that_cannot_be_billed_is_refused_by_name(entry: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        book({"model": "fine", "flat": 1}, entry)
    assert caught.value.path == path


def test_savings_are_what_the_cache_made_cheaper() -> None:
    usage = Usage(1000, 10, cached=600, cache_write=100)
    price = price_of(input=3, output=15, cached_input=0.3, cache_write=3.75)
    assert price.saved_nano_usd(usage) == 600 * 2700
    assert price_of(flat=3).saved_nano_usd(usage) == 0
    assert price_of(input=1, output=1, cached_input=2).saved_nano_usd(usage) == 0


money = st.integers(0, 10**9)
prices = st.builds(Price, st.just("m"), st.just(""), money, money, money, money, st.none() | money, st.booleans())


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, fresh = (draw(st.integers(0, 10**7)) for _ in range(3))
    return Usage(cached + written + fresh, draw(st.integers(0, 10**7)), cached, written)


@given(prices, usages(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_usage_within_the_bounds_costs_more_than_was_reserved(
    price: Price, usage: Usage, more: int, longer: int
) -> None:
    most = price.most_nano_usd(usage.prompt + more, usage.completion + longer)
    assert type(most) is int
    assert 0 <= price.nano_usd(usage) <= most


@given(prices, usages(), usages())
def test_more_tokens_never_cost_less(price: Price, usage: Usage, more: Usage) -> None:
    both = Usage(
        usage.prompt + more.prompt,
        usage.completion + more.completion,
        usage.cached + more.cached,
        usage.cache_write + more.cache_write,
    )
    assert price.nano_usd(both) >= price.nano_usd(usage)
    assert abs(price.nano_usd(both) - price.nano_usd(usage) - price.nano_usd(more)) <= 1  # each is rounded once


@given(prices, usages())
def test_cost_and_savings_are_together_what_it_costs_without_the_cache(price: Price, usage: Usage) -> None:
    saved = price.saved_nano_usd(usage)
    assert (type(saved), saved >= 0) == (int, True)
    if price.cached_input_pico_usd <= price.input_pico_usd:
        uncached = Usage(usage.prompt, usage.completion, 0, usage.cache_write)
        assert price.nano_usd(usage) + saved == price.nano_usd(uncached)


@given(prices, usages())
def test_a_stream_and_a_whole_answer_of_the_same_usage_cost_the_same(price: Price, usage: Usage) -> None:
    details = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write}
    whole = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "prompt_tokens_details": details}
    streamed = {**whole, "total_tokens": usage.total, "prompt_cache_hit_tokens": usage.cached}
    costs = [price.nano_usd(read) for raw in (whole, streamed) if (read := Usage.read(raw)) is not None]
    assert costs == [price.nano_usd(usage)] * 2
