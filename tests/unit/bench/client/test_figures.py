"""The numbers that a run comes to, against numbers worked out by hand."""

from typing import Any

import pytest

from genkan.bench.client.figures import Objective, by_arm, elapsed, figures, spread, times_s
from genkan.bench.client.outcome import Outcome, Seen


def outcome(
    due_s: float = 0.0, *token_s: float, ended_s: float = 1.0, late_s: float = 0.0, arm: str = "all", **seen: Any
) -> Outcome:
    return Outcome(arm, due_s, due_s + late_s, Seen(ended_s=ended_s, token_s=list(token_s), **seen))


def test_times_count_from_when_a_request_was_due() -> None:
    late = outcome(10.0, 10.5, 10.6, 10.9, ended_s=11.0, late_s=0.3)
    assert [late.delay_s, late.ttft_s, late.latency_s] == pytest.approx([0.3, 0.5, 1.0])
    assert late.gaps_s == pytest.approx([0.1, 0.3])
    assert late.tpot_s == pytest.approx(0.2)


def test_a_request_that_was_sent_too_soon_counts_from_then() -> None:
    assert outcome(10.0, 10.4, late_s=-0.1).ttft_s == pytest.approx(0.5)


def test_tpot_counts_tokens_where_usage_does() -> None:
    assert outcome(0.0, 1.0, 2.0, completion_tokens=5).tpot_s == pytest.approx(0.25)
    assert outcome(0.0, 1.0, completion_tokens=5).tpot_s is None
    assert outcome(0.0).ttft_s is None


def test_percentiles_are_interpolated_and_the_deviation_is_the_samples() -> None:
    measured = spread([number / 1000 for number in range(1, 101)])
    assert measured is not None
    assert (measured.mean_ms, measured.max_ms) == pytest.approx((50.5, 100.0))
    assert (measured.p50_ms, measured.p95_ms, measured.p99_ms) == pytest.approx((50.5, 95.05, 99.01))
    assert measured.stdev_ms == pytest.approx(29.0115, rel=1e-4)
    assert spread([]) is None
    one = spread([0.2])
    assert one is not None
    assert (one.stdev_ms, one.p99_ms) == (0.0, 200.0)


@pytest.mark.parametrize(
    ("objective", "met"),
    [
        (Objective(), True),
        (Objective(ttft_s=0.5), True),
        (Objective(ttft_s=0.49), False),
        (Objective(itl_s=0.25), True),
        (Objective(itl_s=0.24), False),
        (Objective(tpot_s=0.1875), True),
        (Objective(tpot_s=0.18), False),
        (Objective(latency_s=1.0), True),
        (Objective(latency_s=0.99), False),
        (Objective(ttft_s=9.0, itl_s=9.0, tpot_s=9.0, latency_s=0.9), False),
    ],
)
def test_an_objective_is_met_when_every_bound_is(objective: Objective, met: bool) -> None:
    assert objective.is_met(outcome(0.0, 0.5, 0.625, 0.875, ended_s=1.0)) is met
    assert not objective.is_met(outcome(0.0, 0.1, ended_s=0.2, error="cut off"))


def test_a_stream_without_text_has_not_kept_the_time_to_its_first_token() -> None:
    assert not Objective(ttft_s=9.0).is_met(outcome(0.0, ended_s=0.1))


def test_goodput_is_of_all_requests_and_latencies_of_those_answered() -> None:
    outcomes = [
        outcome(0.0, 0.1, ended_s=0.2),
        outcome(1.0, 1.9, ended_s=2.0),
        outcome(2.0, ended_s=4.0, error="status 503"),
        outcome(3.0, 3.1, ended_s=3.2),
    ]
    found = figures(outcomes, Objective(ttft_s=0.5))
    assert (found["requests"], found["answered"], found["errors"]) == (4, 3, {"status 503": 1})
    assert (found["error_rate"], found["elapsed_s"], found["rps"]) == (0.25, 4.0, 0.75)
    assert found["goodput"] == {"share": 0.5, "rps": 0.5, "ttft_ms": 500.0}
    assert found["e2e"]["max_ms"] == pytest.approx(1000.0)
    assert "goodput" not in figures(outcomes, Objective())


def test_hits_savings_and_cost() -> None:
    tokens: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 20}
    outcomes = [
        outcome(cache="hit-exact", cost_usd=0.0, **tokens, cached_tokens=50),  # what was cached then spares nothing now
        outcome(cache="hit-semantic", cost_usd=0.0, **tokens),
        outcome(cache="miss", cost_usd=0.5, **tokens, cached_tokens=60),
        outcome(cache="bypass", **tokens),
    ]
    found = figures(outcomes, Objective())
    assert found["cache"]["hit_rate"] == 0.5
    assert found["tokens"]["prefix_cached"] == 60
    assert found["tokens"]["of_stored_answers"] == 240
    assert found["tokens"]["saved_share"] == pytest.approx(300 / 480)
    assert found["cost"] == {"usd": 0.5, "usd_per_1k_requests": pytest.approx(500 / 3), "unpriced": 1}


def test_a_server_that_says_nothing_of_cache_cost_and_tokens_has_no_such_figures() -> None:
    found = figures([outcome()], Objective())
    assert (found["cache"]["hit_rate"], found["cost"]["usd"], found["tokens"]["saved_share"]) == (None, None, None)
    assert (found["ttft"], found["itl"]) == (None, None)


def test_arms_are_apart_and_gaps_of_all_requests_together() -> None:
    outcomes = [outcome(0.0, 0.1, 0.3, arm="a"), outcome(0.0, 0.1, 0.2, 0.6, arm="b"), outcome(arm="a", error="x")]
    assert {arm: len(some) for arm, some in by_arm(outcomes).items()} == {"a": 2, "b": 1}
    assert times_s(outcomes, "itl") == pytest.approx([0.2, 0.1, 0.4])
    assert elapsed(outcomes) == 1.0


def test_nothing_measured_is_no_zero() -> None:
    with pytest.raises(ValueError, match="no request"):
        figures([], Objective())
