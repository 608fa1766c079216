"""Who is asked first, by how a prompt begins and who has room."""

from collections import Counter
from collections.abc import Mapping

import pytest
from scripted_upstreams import Place, Told, VirtualClock, request, taken

from genkan.config import AffinityConfig, RouteConfig
from genkan.gateway.affinity import Affinity
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback
from genkan.wire.chat import ChatRequest

NOW_S = 1000.0
STARTS = [number.to_bytes(16, "big") for number in range(4000)]


def places(weights: Mapping[str, int]) -> dict[str, Place]:
    clock, told = VirtualClock(NOW_S), Told()
    return {name: Place(name, clock, told, weight=weight) for name, weight in weights.items()}


def affinity(some: Mapping[str, Place], load_factor: float = 1.25) -> Affinity:
    return Affinity(AffinityConfig(load_factor=load_factor), [place.deployment for place in some.values()])


def names(order: list[Deployment]) -> str:
    return "".join(deployment.model for deployment in order)


def chat(number: int) -> ChatRequest:
    return ChatRequest.from_object({"model": "r", "messages": [{"role": "user", "content": f"Chat {number}"}]})


def order(one: Affinity, now_s: float | None = NOW_S) -> str:
    return names(one.order(request(), "acme", now_s))


def test_every_start_has_an_order_of_its_own_that_stays() -> None:
    one = affinity(places({"a": 1, "b": 1, "c": 1}))
    orders = Counter(names(one.ranked(start)) for start in STARTS)
    assert set(orders) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert all(abs(times / len(STARTS) - 1 / 6) < 0.03 for times in orders.values())
    assert [names(one.ranked(start)) for start in STARTS[:50]] == [names(one.ranked(start)) for start in STARTS[:50]]


def test_the_order_is_the_same_in_every_process() -> None:
    one = affinity(places({"a": 1, "b": 2, "c": 3}))
    assert " ".join(names(one.ranked(start)) for start in STARTS[:8]) == "bca bca cba acb cba cba bca bca"


def test_they_are_first_in_proportion_to_their_weights() -> None:
    one = affinity(places({"a": 1, "b": 2, "c": 5}))
    first = Counter(one.ranked(start)[0].model for start in STARTS)
    for name, share in {"a": 1 / 8, "b": 2 / 8, "c": 5 / 8}.items():
        assert abs(first[name] / len(STARTS) - share) < 0.03  # about four standard deviations


def test_who_has_no_room_is_passed_over_for_the_next_always_the_same() -> None:
    some = places({"a": 1, "b": 1, "c": 1, "d": 1})
    one = affinity(some)
    first, second, *others = list(order(one))
    some[first].deployment.in_flight = 3  # of 4, this one counted: 1.25 of one, and one more
    for _ in range(3):
        assert order(one) == "".join([second, *others, first])


@pytest.mark.parametrize(("elsewhere", "too_many"), [(0, 2), (1, 4), (10, 20), (100, 153)])
def test_the_bound_is_a_factor_of_the_share_and_what_chance_adds(elsewhere: int, too_many: int) -> None:
    some = places({"a": 1, "b": 1, "c": 1, "d": 1})
    one = affinity(some)
    first, *others = list(order(one))
    for name in others:
        some[name].deployment.in_flight = elsewhere
    while order(one)[0] == first:
        some[first].deployment.in_flight += 1
    assert some[first].deployment.in_flight == too_many


def test_the_share_is_by_weight() -> None:
    some = places({"a": 3, "b": 1})
    one = affinity(some)
    before = order(one)
    some["a"].deployment.in_flight, some["b"].deployment.in_flight = 300, 100
    assert order(one) == before
    some["a"].deployment.in_flight, some["b"].deployment.in_flight = 200, 200
    assert order(one) == "ab", "b has twice its share, whatever the prompt"


def test_when_all_are_full_they_are_asked_by_rank_all_the_same() -> None:
    some = places({"a": 1})
    one = affinity(some)
    some["a"].deployment.in_flight = 50
    assert order(one) == "a"


def test_weight_0_comes_last_and_has_no_share() -> None:
    some = places({"z": 0, "a": 1, "b": 1})
    one = affinity(some)
    assert order(one) in ("abz", "baz")
    some["z"].deployment.in_flight = 1000
    first = order(one)[0]
    some[first].deployment.in_flight = 10
    assert order(one)[1:] == f"{first}z"


@pytest.mark.parametrize("why", ["breaker", "cooling", "unhealthy"])
def test_who_is_left_alone_keeps_its_place_and_has_no_share(why: str) -> None:
    some = places({"a": 1, "b": 1, "c": 1, "d": 1})
    one = affinity(some)
    before = order(one)
    first, second, *others = list(before)
    lost = some[first].deployment
    if why == "breaker":
        some[first].open_breaker(NOW_S)
    elif why == "cooling":
        lost.cooling.until(NOW_S, 60.0)
    else:
        lost.standing.probed(well=False, at_once=True)
    assert order(one) == before
    for name in others:
        some[name].deployment.in_flight = 3
    some[second].deployment.in_flight = 6  # of 13: too many for one of four, and not for one of three
    assert order(one, None) == "".join([first, *others, second])
    assert order(one) == before
    some[second].deployment.in_flight = 9
    assert order(one) == "".join([first, *others, second])


def test_a_chain_without_it_draws_and_reads_no_prompt() -> None:
    some = places({"a": 1, "b": 1})
    config = RouteConfig(alias="r", chain=["m"])
    chain = Chain(config, [[place.deployment for place in some.values()]], affinities={})
    assert {names(chain.order(request(), "acme")) for _ in range(100)} == {"ab", "ba"}


def test_it_orders_its_models_tier_and_no_other() -> None:
    config = RouteConfig(alias="r", chain=["m"])
    some = places({"a": 1, "b": 1, "c": 1})
    for name in "ab":
        some[name].deployment.model = "m"
    tiers = [[some["a"].deployment, some["b"].deployment], [some["c"].deployment]]
    one = Affinity(AffinityConfig(), tiers[0])
    chain = Chain(config, tiers, affinities={"m": one, "c": Affinity(AffinityConfig(), tiers[1])})
    expected = [*one.order(request(), "acme"), tiers[1][0]]
    assert all(chain.order(request(), "acme", NOW_S) == expected for _ in range(50))
    assert {chain.order()[0].name for _ in range(100)} == {"a@a.up", "b@b.up"}, "nobody's prompt: by weight"


@pytest.mark.anyio
async def test_when_a_replica_is_lost_only_its_chats_move_and_they_return_with_it() -> None:
    clock, told = VirtualClock(NOW_S), Told()
    some = {name: Place(name, clock, told) for name in "abcd"}
    deployments = [place.deployment for place in some.values()]
    for deployment in deployments:
        deployment.model = "m"
    config = RouteConfig(alias="r", chain=["m"])
    chain = Chain(config, [deployments], affinities={"m": Affinity(AffinityConfig(), deployments)})

    async def who_answers() -> list[str]:
        answered = []
        for number in range(100):
            answer, walk = await Fallback(clock, told, clock.sleep).respond(chain, chat(number))
            await taken(answer)
            assert walk.answered_by is not None
            answered.append(walk.answered_by.upstream.name)
        return answered

    before = await who_answers()
    some["b"].open_breaker(clock.now_s)
    without = await who_answers()
    for number, (old, new) in enumerate(zip(before, without, strict=True)):
        by_rank = [one.upstream.name for one in chain.order(chat(number))]
        assert new == (by_rank[1] if old == "b.up" else old)
    assert len({new for old, new in zip(before, without, strict=True) if old == "b.up"}) == 3
    clock.now_s += 3600.0
    assert await who_answers() == before
