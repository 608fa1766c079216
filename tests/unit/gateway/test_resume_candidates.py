"""Who may go on with an answer, and in which order."""

import pytest
from scripted_upstreams import Place, Told, VirtualClock

from genkan.gateway.deployment import Deployment
from genkan.gateway.resume_candidates import candidates, kinship
from genkan.gateway.rules import Verdict

AGAIN, LEFT = Verdict("error", again=True), Verdict("error")


def places(**groups: str) -> dict[str, Deployment]:
    """Deployments by the names of their models, each with its group."""
    made = {name: Place(name, VirtualClock(), Told()).deployment for name in groups}
    for name, group in groups.items():
        made[name].resume_group = group
    return made


def order(chain: dict[str, Deployment], failed: dict[str, Verdict], *, other_models: bool = False) -> list[str]:
    began = next(iter(chain.values()))
    by_name = {chain[name].name: meaning for name, meaning in failed.items()}
    found = candidates([*chain.values()], began, by_name, other_models=other_models)
    return [f"{one.model}{' again' * is_again}" for one, is_again in found]


def test_kin_of_the_same_group_are_nearer_than_others() -> None:
    chain = places(a="g", b="g", c="", d="h")
    assert [kinship(chain["a"], one) for one in chain.values()] == [0, 1, 2, 2]


def test_no_group_is_not_a_group() -> None:
    chain = places(a="", b="")
    assert kinship(chain["a"], chain["b"]) == 2


@pytest.mark.parametrize(("other_models", "expected"), [(False, ["c"]), (True, ["c", "b", "d"])])
def test_others_come_last_and_only_where_the_route_has_it_so(expected: list[str], *, other_models: bool) -> None:
    chain = places(a="g", b="", c="g", d="")
    assert order(chain, {"a": LEFT}, other_models=other_models) == expected


def test_who_failed_comes_after_those_who_did_not_and_who_failed_last_at_the_end() -> None:
    chain = places(a="g", b="g", c="g", d="g")
    assert order(chain, {"c": AGAIN, "b": LEFT, "a": AGAIN}) == ["d", "c again", "a again"]
