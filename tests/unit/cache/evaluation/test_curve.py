"""Hits and wrong answers over thresholds."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.evaluation.compared import Compared
from genkan.cache.evaluation.curve import REFUSED, curves, guarded
from genkan.cache.features import NAMES
from genkan.cache.score import Score

SCORE = Score(weights=(0.0,) * len(NAMES), bias=0.0, thresholds={"en": 0.5}, version="w")
ROWS = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans(), st.booleans()), min_size=1, max_size=30)


def compared(rows: Sequence[tuple[float, bool, bool]]) -> Compared:
    """Of cosine, whether it is the same, and whether a guard refuses."""
    return Compared(
        cosines=np.array([cosine for cosine, _, _ in rows]),
        same=np.array([same for _, same, _ in rows]),
        languages=np.full(len(rows), "en"),
        refusals=np.array(["numbers" if refused else "" for _, _, refused in rows]),
        features=np.zeros((len(rows), len(NAMES))),
    )


def test_a_curve_by_hand() -> None:
    cosine, with_guards, scored = curves(
        compared([(0.9, True, False), (0.9, False, True), (0.5, True, False), (0.1, False, False)]), SCORE
    )
    assert cosine.hits.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert cosine.wrong.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert with_guards.hits.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert with_guards.wrong.tolist() == [0.0, 0.0, 0.0, 0.5]
    assert (with_guards.hits_at(0.0), cosine.hits_at(0.0), cosine.hits_at(0.7)) == (1.0, 0.0, 1.0)
    assert (scored.hits.tolist(), scored.wrong.tolist()) == ([0.0, 1.0], [0.0, 0.5])  # all have one probability


@given(ROWS)
def test_every_point_is_what_some_threshold_serves(rows: list[tuple[float, bool, bool]]) -> None:
    pairs = compared(rows)
    same, different = pairs.same, ~pairs.same
    for curve, values in zip(curves(pairs, SCORE)[:2], (pairs.cosines, guarded(pairs, pairs.cosines)), strict=True):
        points = {(0.0, 0.0)}
        for threshold in set(values.tolist()) - {REFUSED}:
            served = values >= threshold
            points.add((served[same].sum() / max(1, same.sum()), served[different].sum() / max(1, different.sum())))
        assert set(zip(curve.hits.tolist(), curve.wrong.tolist(), strict=True)) == points
        assert (np.diff(curve.hits) >= 0).all()
        assert (np.diff(curve.wrong) >= 0).all()
