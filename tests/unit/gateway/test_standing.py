"""Parked, cooling, unhealthy: how each begins and ends."""

import math

import pytest

from genkan.errors import UpstreamError, UpstreamQuota, UpstreamUnauthorized
from genkan.gateway.standing import COOLING_S, LONGEST_COOLING_S, Cooling, UpstreamStanding

KEY = UpstreamUnauthorized("no such key", upstream="u")
MONEY = UpstreamQuota("spent", upstream="u")


@pytest.fixture
def standing() -> UpstreamStanding:
    return UpstreamStanding(unhealthy_after=2)


def test_an_upstream_begins_well(standing: UpstreamStanding) -> None:
    assert (standing.parked_by(0.0), standing.healthy) == (None, True)


@pytest.mark.parametrize("error", [KEY, MONEY])
def test_a_parked_upstream_gives_everyone_an_error_of_their_own(
    standing: UpstreamStanding, error: UpstreamError
) -> None:
    standing.park(error, 10.0)
    first, second = standing.parked_by(0.0), standing.parked_by(9.9)
    assert first is not None
    assert second is not None
    assert len({id(first), id(second), id(error)}) == 3
    for each in (first, second):
        assert (type(each), each.message, each.upstream) == (type(error), error.message, "u")
    first.retry_after_s = 7.0
    assert standing.parked_by(9.9).retry_after_s is None  # type: ignore[union-attr]


def test_an_upstream_is_parked_until_its_time_is_over(standing: UpstreamStanding) -> None:
    standing.park(KEY, 10.0)
    assert standing.parked_by(math.nextafter(10.0, 0.0)) is not None
    assert standing.parked_by(10.0) is None


@pytest.mark.parametrize("parked_until_s", [0.0, 10.0, 10.1])
@pytest.mark.parametrize("failed_probes", range(4))
def test_an_upstream_admits_while_it_is_healthy_and_not_parked(
    standing: UpstreamStanding, parked_until_s: float, failed_probes: int
) -> None:
    if parked_until_s:
        standing.park(KEY, parked_until_s)
    for _ in range(failed_probes):
        standing.probed(well=False)
    for now_s in (9.9, 10.0, 10.05):
        assert standing.admits(now_s) == (standing.healthy and standing.parked_by(now_s) is None)


def test_an_upstream_without_a_key_can_be_parked_for_good(standing: UpstreamStanding) -> None:
    standing.park(KEY, math.inf)
    assert standing.parked_by(1e12) is not None


def test_what_parked_it_holds_on_to_no_stack(standing: UpstreamStanding) -> None:
    with pytest.raises(UpstreamUnauthorized) as caught:
        raise UpstreamUnauthorized("no", upstream="u")
    assert caught.value.__traceback__ is not None
    standing.park(caught.value, 10.0)
    parked = standing.parked_by(0.0)
    assert parked is not None
    assert (parked.__traceback__, parked.__context__, parked.__cause__) == (None, None, None)
    assert standing._parked_by is not None
    assert standing._parked_by.__traceback__ is None


@pytest.mark.parametrize("error", [KEY, MONEY])
def test_what_a_probe_finds_neither_parks_it_nor_ends_that(standing: UpstreamStanding, error: UpstreamError) -> None:
    standing.probed(well=False, at_once=True)
    assert standing.parked_by(0.0) is None
    standing.park(error, 10.0)
    standing.probed(well=True)
    assert type(standing.parked_by(0.0)) is type(error)


@pytest.mark.parametrize(("failed", "healthy"), [(0, True), (1, True), (2, False), (9, False)])
def test_it_is_unhealthy_after_so_many_failed_probes(standing: UpstreamStanding, failed: int, healthy: bool) -> None:
    for _ in range(failed):
        standing.probed(well=False)
    assert standing.healthy is healthy
    standing.probed(well=True)
    assert standing.healthy


def test_some_probes_need_not_be_repeated(standing: UpstreamStanding) -> None:
    standing.probed(well=False, at_once=True)
    assert not standing.healthy
    standing.probed(well=True)
    standing.probed(well=False)
    assert standing.healthy  # and that one is forgotten


@pytest.mark.parametrize(
    ("said_s", "pause_s"),
    [(None, COOLING_S), (0.0, 0.0), (0.5, 0.5), (20.0, 20.0), (1e9, LONGEST_COOLING_S), (math.inf, LONGEST_COOLING_S)],
)
def test_a_deployment_cools_as_long_as_it_said_within_reason(said_s: float | None, pause_s: float) -> None:
    cooling = Cooling()
    assert cooling.left_s(100.0) == 0.0
    cooling.until(100.0, said_s)
    assert cooling.left_s(100.0) == pause_s
    assert cooling.left_s(100.0 + pause_s / 2) == pause_s / 2
    assert cooling.left_s(100.0 + pause_s) == cooling.left_s(1e6) == 0.0


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    cooling = Cooling()
    cooling.until(100.0, 20.0)
    cooling.until(101.0, None)
    assert cooling.left_s(101.0) == 19.0
