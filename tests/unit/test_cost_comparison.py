"""Monthly costs of a workload."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genkan.config import PricesConfig
from genkan.cost_comparison import Comparison, Hosting, Row, Workload, asked, compare
from genkan.errors import InvalidRequest
from genkan.gateway.prices import PriceBook

PRICES = yaml.safe_load((Path(__file__).parents[2] / "configs/prices.yaml").read_text(encoding="utf-8"))
USD = 10**9


def shipped(**given: str) -> Comparison:
    workload, hosting = asked(given)
    return compare(PriceBook(PricesConfig.model_validate(PRICES)), workload, hosting)


def one(entry: dict[str, Any], **given: str) -> Row:
    workload, hosting = asked(given)
    prices = PriceBook(PricesConfig.model_validate({"models": [{"model": "m", **entry}]}))
    return next(row for row in compare(prices, workload, hosting).rows if row.model == "m")


def test_the_classical_table() -> None:
    """10,000 requests a day of 2,000 tokens for 30 days are 600 million; at 85 % hits 90 million are paid for."""
    with_cache = {row.name: row.with_cache_nano_usd for row in shipped().rows}
    without = {row.name: row.without_cache_nano_usd for row in shipped().rows}
    assert with_cache["gpt-4.1"] == with_cache["gpt-4.1@holysheep"] == 720 * USD
    assert with_cache["deepseek-v3.2"] == 37_800_000_000
    assert with_cache["claude-sonnet-4.5"] == 1350 * USD
    assert with_cache["gemini-2.5-flash"] == 225 * USD
    assert with_cache["smollm2-135m-instruct"] == 0
    assert without["gpt-4.1"] == 4800 * USD


def test_rows_come_by_cost_and_say_what_is_saved() -> None:
    rows = shipped().rows
    costs = [row.with_cache_nano_usd for row in rows]
    assert costs == sorted(costs)
    assert all(row.saved_nano_usd == row.without_cache_nano_usd - row.with_cache_nano_usd for row in rows)
    assert len(rows) == len({row.name for row in rows}) > 12


def test_prompt_and_answer_apart_are_priced_apart() -> None:
    entry = {"input": 2, "output": 8, "cached_input": 0.5, "flat": 8}
    apart = {"input_tokens": "1500", "output_tokens": "500", "cache_hit_rate": "0"}
    row = one(entry, **apart)
    assert (row.basis, row.with_cache_nano_usd) == ("split", 300_000 * (3000 + 4000) * 1000)
    half = one(entry, **apart, prefix_share="0.5")
    assert half.with_cache_nano_usd == 300_000 * (1500 + 375 + 4000) * 1000
    assert one(entry, prefix_share="0.5", cache_hit_rate="0") == half  # one number is three parts to one then
    assert one(entry).basis == "flat"


def test_without_a_flat_price_one_number_is_split_and_without_a_split_two_are_flat() -> None:
    assert one({"input": 1, "output": 5}, tokens="10", cache_hit_rate="0", days="1", requests_per_day="1") == Row(
        "m", "", "split", 22_000, 22_000
    )  # 7 in, 3 out
    flat = one({"flat": 8}, input_tokens="1500", output_tokens="500", prefix_share="1")
    assert (flat.basis, flat.with_cache_nano_usd) == ("flat", 720 * USD)


def test_own_gpus_are_paid_day_and_night_each() -> None:
    comparison = shipped(gpu_hour_usd="6.50", gpus="2")
    (own,) = [row for row in comparison.rows if row.basis == "GPU hours"]
    assert (own.name, own.with_cache_nano_usd) == ("self-hosted on 2 GPUs", 9360 * USD)
    assert (own.without_cache_nano_usd, own.saved_nano_usd) == (9360 * USD, 0)
    assert Hosting(Decimal("6.50")).nano_usd(days=1) == 156 * USD


def test_from_the_break_even_on_own_gpus_cost_less() -> None:
    entry = {"flat": 8}
    even = one(entry, gpu_hour_usd="6.5", gpus="2").break_even_requests_per_day
    assert even == 130_000
    there = one(entry, requests_per_day=str(even)).with_cache_nano_usd
    before = one(entry, requests_per_day=str(even - 1)).with_cache_nano_usd
    assert before < 9360 * USD <= there
    assert one(entry).break_even_requests_per_day is None
    assert one({"flat": 0}, gpu_hour_usd="1").break_even_requests_per_day is None
    assert one(entry, gpu_hour_usd="1", cache_hit_rate="1").break_even_requests_per_day is None


def test_defaults_are_what_they_are_said_to_be() -> None:
    assert asked({}) == (Workload(10_000, 1500, 500, True, Fraction(17, 20), Fraction(0), 30), None)
    assert asked({"tokens": "2000"}) == asked({})
    assert asked({"gpu_hour_usd": "6.50"})[1] == Hosting(Decimal("6.50"), 1)


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"requests_per_day": "0"}, "requests_per_day", "a whole number from 1 to 1000000000; given: '0'"),
        ({"requests_per_day": "1.5"}, "requests_per_day", "a whole number"),
        ({"requests_per_day": ""}, "requests_per_day", "given: ''"),
        ({"tokens": "１０"}, "tokens", "a whole number"),
        ({"days": "367"}, "days", "from 1 to 366"),
        ({"cache_hit_rate": "1.01"}, "cache_hit_rate", "at most six decimals from 0 to 1"),
        ({"cache_hit_rate": "-0.1"}, "cache_hit_rate", "from 0 to 1"),
        ({"cache_hit_rate": "nan"}, "cache_hit_rate", "from 0 to 1"),
        ({"prefix_share": "1e-1"}, "prefix_share", "from 0 to 1"),
        ({"gpu_hour_usd": "Infinity"}, "gpu_hour_usd", "from 0 to 1000000"),
        ({"gpus": "2"}, "gpu_hour_usd", "'gpus' needs 'gpu_hour_usd'"),
        ({"gpus": "0", "gpu_hour_usd": "1"}, "gpus", "from 1 to 100000"),
        ({"input_tokens": "5"}, "output_tokens", "goes with"),
        ({"output_tokens": "5"}, "input_tokens", "goes with"),
        ({"tokens": "5", "input_tokens": "5", "output_tokens": "5"}, "tokens", "not both"),
        ({"days": "9" * 5000}, "days", "from 1 to 366"),
    ],
)
def test_a_wrong_number_is_named_with_its_range(given: dict[str, str], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(given)
    assert caught.value.param == param
    assert words in caught.value.message
    assert len(caught.value.message) < 300


def test_it_is_json() -> None:
    content = orjson.loads(orjson.dumps(shipped(gpu_hour_usd="6.50").as_object()))
    assert content["self_hosting"] == {"gpu_hour_usd": 6.5, "gpus": 1}
    assert content["workload"]["cache_hit_rate"] == 0.85
    row = next(row for row in content["rows"] if (row["model"], row["upstream"]) == ("deepseek-v3.2", None))
    assert (row["with_cache_usd"], row["without_cache_usd"], row["saved_usd"]) == (37.8, 252, 214.2)
    assert shipped().as_object()["self_hosting"] is None


@given(
    flat=st.integers(0, 10**7),
    requests=st.integers(1, 10**6),
    tokens=st.integers(1, 10**5),
    percent=st.integers(0, 100),
    days=st.integers(1, 366),
)
def test_it_is_exact(flat: int, requests: int, tokens: int, percent: int, days: int) -> None:
    row = one(
        {"flat": Decimal(flat).scaleb(-6)},
        requests_per_day=str(requests),
        tokens=str(tokens),
        cache_hit_rate=str(Decimal(percent) / 100),
        days=str(days),
    )
    exact = Fraction(flat * requests * tokens * days * (100 - percent), 100 * 1000)
    assert type(row.with_cache_nano_usd) is int
    assert abs(row.with_cache_nano_usd - exact) <= Fraction(1, 2)
    assert row.without_cache_nano_usd >= row.with_cache_nano_usd
