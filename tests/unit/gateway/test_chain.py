"""The order in which one request tries a chain."""

import random
from collections import Counter

from scripted_upstreams import Place, Told, VirtualClock

from genkan.config import RouteConfig
from genkan.gateway.chain import Chain

CONFIG = RouteConfig(alias="r", chain=["m"])
DRAWS = 20_000


def chain(*tiers: dict[str, int], seed: int = 7) -> Chain:
    """A chain whose tiers map names to weights."""
    clock, told = VirtualClock(), Told()
    return Chain(
        CONFIG,
        [[Place(name, clock, told, weight=weight).deployment for name, weight in tier.items()] for tier in tiers],
        random.Random(seed).random,
    )


def drawn(chain: Chain, draws: int = DRAWS) -> Counter[str]:
    """How often each order came, as the names in a row."""
    return Counter("".join(one.model for one in chain.order()) for _ in range(draws))


def test_it_has_the_name_and_the_budget_of_its_route() -> None:
    one = chain({"a": 1})
    assert (one.name, one.config) == ("r", CONFIG)
    assert [one.budget.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_tiers_of_one_are_tried_in_order_and_nothing_is_drawn() -> None:
    one = chain({"a": 1}, {"b": 0}, {"c": 100})
    assert [deployment.model for deployment in one.order()] == ["a", "b", "c"]
    assert one.order() is one.order()


def test_the_first_of_a_tier_is_drawn_by_weight() -> None:
    orders = drawn(chain({"a": 1, "b": 2, "c": 7}))
    first = Counter[str]()
    for order, times in orders.items():
        first[order[0]] += times
    for name, share in {"a": 0.1, "b": 0.2, "c": 0.7}.items():
        assert abs(first[name] / DRAWS - share) < 0.015  # more than four standard deviations


def test_the_second_is_drawn_by_weight_among_the_others() -> None:
    orders = drawn(chain({"a": 1, "b": 2, "c": 7}))
    assert set(orders) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    after_c = orders["cab"] + orders["cba"]
    assert abs(orders["cba"] / after_c - 2 / 3) < 0.02


def test_weights_do_not_reach_across_tiers() -> None:
    orders = drawn(chain({"a": 1, "b": 1}, {"c": 10_000, "d": 1}), 500)
    assert {order[:2] for order in orders} == {"ab", "ba"}
    assert {order[2:] for order in orders} >= {"cd"}


def test_weight_0_is_only_after_the_others() -> None:
    orders = drawn(chain({"a": 0, "b": 1, "c": 1}), 500)
    assert set(orders) == {"bca", "cba"}


def test_everyone_is_in_every_order_once() -> None:
    orders = drawn(chain({"a": 10_000, "b": 1, "c": 0}, {"d": 3}), 500)
    assert {"".join(sorted(order)) for order in orders} == {"abcd"}
