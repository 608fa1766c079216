"""A quantile of a histogram is never less than the values have."""

import pytest

from genkan.bench.idle_streams import quantile

BUCKETS = {0.01: 50.0, 0.1: 98.0, 1.0: 100.0, float("inf"): 100.0}


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.01), (0.51, 0.1), (0.98, 0.1), (0.99, 1.0), (1.0, 1.0)])
def test_the_bound_of_the_bucket(share: float, bound: float) -> None:
    assert quantile(BUCKETS, share) == bound


def test_no_values() -> None:
    assert quantile({}, 0.99) == 0.0
    assert quantile(dict.fromkeys(BUCKETS, 0.0), 0.99) == 0.0
