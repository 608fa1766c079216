"""What is said of a canary, given what was measured."""

import pytest

from genkan.config import CanaryConfig, GuardsConfig
from genkan.gateway.arm import Sample
from genkan.gateway.canary.decision import Comparison, Verdict, judge
from genkan.gateway.canary.sums import ArmSums

SPREAD = (0.5, 0.8, 1.0, 1.25, 2.0)  # of which the logarithms' mean is 0


def config(min_requests: float = 100, **guards: float | None) -> CanaryConfig:
    none = dict.fromkeys(GuardsConfig.model_fields)
    return CanaryConfig(model="tried", min_requests=int(min_requests), guards=GuardsConfig(**(none | guards)))


def arm(
    n: int, *, failures: int = 0, seconds: float = 1.0, ttft_s: float | None = None, cost: int | None = None
) -> ArmSums:
    sums = ArmSums()
    for place in range(n):
        times = SPREAD[place % len(SPREAD)]
        first = None if ttft_s is None else ttft_s * times
        sums.add(Sample(place >= failures, seconds * times, first is not None, first, cost, 100))
    return sums


def only(verdict: Verdict) -> Comparison:
    (comparison,) = verdict.comparisons
    return comparison


def test_a_slow_canary_is_worse_and_it_is_said_by_how_much() -> None:
    verdict = judge(arm(3000), arm(1000, seconds=1.5), config(latency_ratio=1.1))
    assert (verdict.state, verdict.by) == ("worse", "latency_ratio")
    found = only(verdict)
    assert found.control == pytest.approx(1.0)
    assert found.canary == pytest.approx(1.5)
    assert found.value == pytest.approx(1.5)
    assert found.lower is not None
    assert found.upper is not None
    assert 1.1 < found.lower < 1.5 < found.upper < 1.7
    assert not found.is_exact


def test_an_equal_one_is_no_worse_once_that_is_known() -> None:
    guards = config(latency_ratio=1.1, error_rate=0.02)
    assert judge(arm(3000), arm(200), guards).state == "running"
    assert judge(arm(30_000), arm(3000), guards).state == "no_worse"


def test_by_latency_nothing_is_said_before_min_requests() -> None:
    slow, guards = arm(99, seconds=9.0), config(latency_ratio=1.1)
    assert judge(arm(3000), slow, guards).state == "running"
    assert judge(arm(3000), arm(100, seconds=9.0), guards).state == "worse"
    assert judge(arm(3000), arm(99, seconds=0.1), guards).state == "running"
    assert judge(arm(3000), arm(100, seconds=0.1), guards).state == "no_worse"


def test_what_fails_everything_is_worse_after_a_few() -> None:
    verdict = judge(arm(90), arm(10, failures=10), config(200, error_rate=0.005, latency_ratio=1.1, ttft_ratio=1.1))
    assert (verdict.state, verdict.by) == ("worse", "error_rate")
    assert verdict.comparisons[0].is_exact


def test_means_of_few_are_not_compared() -> None:
    verdict = judge(arm(3000), arm(200, failures=160, seconds=9.0), config(latency_ratio=1.1))
    found = only(verdict)
    assert verdict.state == "running"
    assert (found.lower, found.is_silent) == (None, False)  # 40 were answered


def test_a_guard_without_anything_to_compare_is_left_out() -> None:
    guards = config(latency_ratio=1.1, ttft_ratio=1.1, cost_ratio=1.5)
    verdict = judge(arm(30_000, cost=10**6), arm(3000), guards)
    assert [found.is_silent for found in verdict.comparisons] == [False, True, True]
    assert verdict.state == "no_worse"


def test_a_guard_that_has_little_is_waited_for() -> None:
    canary = arm(3000).merged(arm(10, ttft_s=0.1))
    assert judge(arm(30_000, ttft_s=0.1), canary, config(latency_ratio=1.1, ttft_ratio=1.1)).state == "running"


def test_one_that_is_beyond_its_limit_is_enough() -> None:
    verdict = judge(arm(30_000, cost=1000), arm(3000, cost=2000), config(latency_ratio=1.1, cost_ratio=1.5))
    assert (verdict.state, verdict.by) == ("worse", "cost_ratio")


@pytest.mark.parametrize("guards", [{}, {"ttft_ratio": 1.1}])
def test_where_nothing_is_compared_nothing_is_decided(guards: dict[str, float]) -> None:
    assert judge(arm(30_000), arm(3000), config(**guards)).state == "running"


def test_without_a_control_nothing_is_decided() -> None:
    everything = config(error_rate=0.005, latency_ratio=1.1)
    assert judge(ArmSums(), arm(3000, failures=3000), everything).state == "running"
    assert judge(ArmSums(), ArmSums(), everything).state == "running"


def test_a_guard_beside_others_errs_less() -> None:
    """What may be said in error is divided among the guards, for rollbacks; each promotion takes all of them."""
    arms = arm(3000), arm(300)
    alone, among = judge(*arms, config(latency_ratio=1.1)), judge(*arms, config(latency_ratio=1.1, error_rate=0.01))
    one, other = only(alone), among.comparisons[1]
    assert one.lower is not None
    assert other.lower is not None
    assert other.lower < one.lower
    assert other.upper == one.upper
