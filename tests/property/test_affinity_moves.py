"""When a deployment is lost only its prompts move, and they return with it."""

from hypothesis import given
from hypothesis import strategies as st
from scripted_upstreams import Place, Told, VirtualClock, request

from genkan.config import AffinityConfig
from genkan.gateway.affinity import Affinity
from genkan.gateway.deployment import Deployment

STARTS = [number.to_bytes(16, "big") for number in range(200)]
weights = st.dictionaries(st.text(st.characters(), min_size=1, max_size=8), st.integers(1, 100), min_size=2, max_size=8)


def deployments(by_name: dict[str, int]) -> dict[str, Deployment]:
    clock, told = VirtualClock(), Told()
    return {name: Place(name, clock, told, weight=weight).deployment for name, weight in by_name.items()}


def orders(some: dict[str, Deployment]) -> list[list[str]]:
    affinity = Affinity(AffinityConfig(), list(some.values()))
    return [[one.model for one in affinity.ranked(start)] for start in STARTS]


@given(by_name=weights, data=st.data())
def test_only_the_prompts_of_a_lost_one_move_each_to_its_second(by_name: dict[str, int], data: st.DataObject) -> None:
    everyone = deployments(by_name)
    lost = data.draw(st.sampled_from(sorted(by_name)))
    before = orders(everyone)
    without = orders({name: one for name, one in everyone.items() if name != lost})
    assert without == [[name for name in order if name != lost] for order in before]
    places = data.draw(st.permutations(list(everyone)))
    assert orders({name: everyone[name] for name in places}) == before, "they return, whatever their order"


@given(by_name=weights, data=st.data())
def test_a_weight_that_is_raised_only_draws_prompts_to_it(by_name: dict[str, int], data: st.DataObject) -> None:
    raised = data.draw(st.sampled_from(sorted(by_name)))
    before = orders(deployments(by_name))
    after = orders(deployments(by_name | {raised: by_name[raised] * data.draw(st.integers(2, 10))}))
    assert all(new[0] in (old[0], raised) for old, new in zip(before, after, strict=True))


@given(load=st.lists(st.integers(0, 100), min_size=4, max_size=4), factor=st.floats(1.01, 10))
def test_whatever_the_load_everyone_is_asked_once_and_somebody_has_room(load: list[int], factor: float) -> None:
    some = deployments(dict.fromkeys("abcd", 1))
    for one, in_flight in zip(some.values(), load, strict=True):
        one.in_flight = in_flight
    order = Affinity(AffinityConfig(load_factor=factor), list(some.values())).order(request(), "acme")
    assert sorted(one.model for one in order) == ["a", "b", "c", "d"]
    assert order[0].in_flight < factor * (sum(load) + 1) / 4 + ((sum(load) + 1) / 4) ** 0.5
