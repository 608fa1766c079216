"""Whether a deployment may be asked, by all that can speak against it."""

from collections.abc import Callable

import pytest
from scripted_upstreams import Place, Told, VirtualClock

from genkan.errors import UpstreamUnauthorized
from genkan.gateway.deployment import Deployment

NOW_S = 1000.0
OPEN_S = 30.0


@pytest.fixture
def place() -> Place:
    return Place("m", VirtualClock(NOW_S), Told())


@pytest.fixture
def deployment(place: Place) -> Deployment:
    return place.deployment


def cool(deployment: Deployment) -> None:
    deployment.cooling.until(NOW_S, 5.0)


def park(deployment: Deployment) -> None:
    deployment.standing.park(UpstreamUnauthorized("no", upstream="u"), NOW_S + 5.0)


def fall_ill(deployment: Deployment) -> None:
    deployment.standing.probed(well=False, at_once=True)


def open_breaker(deployment: Deployment) -> None:
    while (attempt := deployment.breaker.begin(NOW_S)) is not None:
        attempt.failed(NOW_S)


def test_its_name_says_what_and_where(deployment: Deployment) -> None:
    assert deployment.name == "m@m.up"


def test_one_that_is_well_may_be_asked(place: Place) -> None:
    assert place.deployment.begin(NOW_S) is not None
    assert place.in_flight == 1
    assert place.deployment.is_well(NOW_S)


@pytest.mark.parametrize("spoil", [cool, park, fall_ill, open_breaker])
def test_one_that_is_not_is_left_alone(place: Place, spoil: Callable[[Deployment], None]) -> None:
    spoil(place.deployment)
    assert place.deployment.begin(NOW_S) is None
    assert place.in_flight == 0


@pytest.mark.parametrize(("spoil", "allowed"), [(cool, False), (park, False), (fall_ill, True), (open_breaker, True)])
def test_as_the_last_it_is_asked_against_a_guess_but_not_against_its_own_word(
    deployment: Deployment, spoil: Callable[[Deployment], None], allowed: bool
) -> None:
    spoil(deployment)
    assert (deployment.begin_as_last(NOW_S) is not None) is allowed


def test_as_the_last_it_is_asked_by_one_at_a_time_or_a_second_while_its_breaker_is_open(deployment: Deployment) -> None:
    open_breaker(deployment)
    first = deployment.begin_as_last(NOW_S)
    assert first is not None
    assert deployment.begin_as_last(NOW_S + 0.5) is None
    first.ignored(NOW_S + 0.5)
    assert deployment.begin_as_last(NOW_S + 0.5) is not None
    assert deployment.begin_as_last(NOW_S + 1.5) is not None


@pytest.mark.parametrize(("spoil", "well"), [(cool, True), (park, False), (fall_ill, False), (open_breaker, False)])
def test_one_that_only_cools_is_well(deployment: Deployment, spoil: Callable[[Deployment], None], well: bool) -> None:
    spoil(deployment)
    assert deployment.is_well(NOW_S) is well


@pytest.mark.parametrize(("spoil", "in_s"), [(cool, 5.0), (open_breaker, OPEN_S)])
def test_it_is_asked_again_when_its_time_is_over(
    deployment: Deployment, spoil: Callable[[Deployment], None], in_s: float
) -> None:
    spoil(deployment)
    assert deployment.begin(NOW_S + in_s - 0.1) is None
    assert deployment.begin(NOW_S + in_s) is not None


def test_of_two_reasons_the_longer_counts(deployment: Deployment) -> None:
    cool(deployment)
    open_breaker(deployment)
    assert deployment.begin(NOW_S + 5.0) is None
    assert deployment.begin(NOW_S + OPEN_S) is not None
