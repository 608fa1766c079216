"""When requests are due."""

from itertools import islice, pairwise
from statistics import fmean, stdev

import pytest

from genkan.bench.client.arrivals import offsets_s


def test_a_constant_rate_is_even_and_begins_at_once() -> None:
    assert list(islice(offsets_s("constant", 4.0, 0), 4)) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    offsets = list(islice(offsets_s("poisson", 50.0, 0), 20_000))
    gaps = [after - before for before, after in pairwise(offsets)]
    assert fmean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert stdev(gaps) == pytest.approx(fmean(gaps), rel=0.05)  # as only exponential gaps have it


def test_arrivals_repeat_with_their_seed() -> None:
    one, again, other = (list(islice(offsets_s("poisson", 5.0, seed), 10)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_they_end_in_time() -> None:
    assert len(list(offsets_s("constant", 10.0, 0, until_s=2.0))) == 20
    assert max(offsets_s("poisson", 100.0, 3, until_s=2.0)) < 2.0
