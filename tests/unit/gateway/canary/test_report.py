"""A canary's figures for people."""

import pytest

from genkan.config import CanaryConfig
from genkan.gateway.arm import Sample
from genkan.gateway.canary.decision import judge
from genkan.gateway.canary.report import compared, figures
from genkan.gateway.canary.sums import ArmSums


def arm(*samples: Sample) -> ArmSums:
    sums = ArmSums()
    for sample in samples:
        sums.add(sample)
    return sums


def test_averages_are_plain_ones_of_what_was_answered() -> None:
    control = arm(Sample(True, 1.0, True, 0.4, 1000, 10), Sample(True, 3.0, False, None, 3000, None))
    canary = arm(Sample(True, 1.0, True, 0.5, None, 30), Sample(False, 60.0, True, 9.0, 5, 5))
    told = figures(control, canary)
    assert (told["control_samples"], told["canary_samples"]) == (2, 2)
    assert (told["control_error_rate"], told["canary_error_rate"]) == (0.0, 0.5)
    assert (told["control_avg_ms"], told["canary_avg_ms"]) == (2000.0, 1000.0)
    assert (told["control_ttft_ms"], told["canary_ttft_ms"]) == (400.0, 500.0)
    assert (told["control_cost_usd"], told["canary_cost_usd"]) == (pytest.approx(2e-6), None)
    assert (told["control_tokens"], told["canary_tokens"]) == (10.0, 30.0)
    assert told["improvement"] == pytest.approx(50.0)
    assert told["ttft_improvement"] == pytest.approx(-25.0)


def test_of_nothing_nothing_is_said() -> None:
    told = figures(ArmSums(), ArmSums())
    assert (told["canary_samples"], told["canary_error_rate"], told["improvement"]) == (0, None, None)


def test_each_guard_says_what_it_finds() -> None:
    good, bad = (
        arm(*[Sample(True, 1.0, False, None, None, 1)] * 2000),
        arm(*[Sample(False, 1.0, False, None, None, 1)] * 90),
    )
    guards = compared(judge(good, bad, CanaryConfig(model="tried")))
    assert {guard["guard"]: guard["finds"] for guard in guards} == {
        "error_rate": "worse",
        "latency_ratio": None,
        "ttft_ratio": None,
    }
