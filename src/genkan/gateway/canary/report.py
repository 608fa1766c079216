"""A canary's figures for people: averages a request, and what each guard sees."""

from genkan.gateway.canary.decision import Verdict
from genkan.gateway.canary.sums import ArmSums


def figures(control: ArmSums, canary: ArmSums) -> dict[str, object]:
    """``{arm}_samples``, ``_failures``, ``_error_rate``, ``_avg_ms``, ``_ttft_ms``, ``_cost_usd``, ``_tokens``.

    Averages are plain ones, of answered requests, and None of nothing. ``improvement``, of ``avg_ms``, and
    ``ttft_improvement`` are in per cent; positive: the canary is quicker.
    """
    told: dict[str, object] = {}
    for arm, sums in (("control", control), ("canary", canary)):
        told[f"{arm}_samples"] = int(sums.n)
        told[f"{arm}_failures"] = int(sums.failures)
        told[f"{arm}_error_rate"] = sums.failures / sums.n if sums.n else None
        told[f"{arm}_avg_ms"] = _times(sums.latency.mean, 1e3)
        told[f"{arm}_ttft_ms"] = _times(sums.ttft.mean, 1e3)
        told[f"{arm}_cost_usd"] = _times(sums.cost.mean, 1e-9)
        told[f"{arm}_tokens"] = sums.tokens.mean
    told["improvement"] = _improvement(control.latency.mean, canary.latency.mean)
    told["ttft_improvement"] = _improvement(control.ttft.mean, canary.ttft.mean)
    return told


def compared(verdict: Verdict) -> list[dict[str, object]]:
    """Each guard's `Comparison`, and whether it finds the canary ``worse``, ``no_worse``, or cannot tell (None)."""
    return [
        {
            **comparison._asdict(),
            "finds": "worse" if comparison.is_worse else "no_worse" if comparison.is_no_worse else None,
        }
        for comparison in verdict.comparisons
    ]


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _improvement(control: float | None, canary: float | None) -> float | None:
    return None if not control or canary is None else 100 * (1 - canary / control)
