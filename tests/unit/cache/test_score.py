"""The score, and how it is fitted."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.features import NAMES
from genkan.cache.score import Score, fit, threshold_for

WIDTH = len(NAMES)


def score(**changes: object) -> Score:
    settings: dict[str, object] = {
        "weights": (1.0,) * WIDTH,
        "bias": -1.0,
        "thresholds": {"en": 0.9},
        "version": "e5/1",
    }
    return Score(**{**settings, **changes})  # type: ignore[arg-type]  # by name


def drawn(pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, the weights behind them, and labels drawn from the model itself."""
    random = np.random.default_rng(seed)
    vectors, weights = random.normal(size=(pairs, WIDTH)), random.normal(size=WIDTH)
    chances = 1.0 / (1.0 + np.exp(-(vectors @ weights + 0.5)))
    return vectors, weights, random.random(pairs) < chances


def test_the_weights_that_made_the_labels_are_found() -> None:
    vectors, weights, same = drawn(20_000)
    found, bias = fit(vectors, same)
    assert np.abs(np.array(found) - weights).max() < 0.15
    assert bias == pytest.approx(0.5, abs=0.1)


def test_a_fit_is_the_same_to_the_last_bit_and_no_matter_how_features_are_scaled() -> None:
    vectors, _, same = drawn(500)
    weights, bias = fit(vectors, same)
    assert (weights, bias) == fit(vectors.copy(), same.copy())
    scaled, moved = fit(vectors * 1000.0 + 7.0, same)
    assert np.allclose(np.array(scaled) * 1000.0, weights)
    one, two = score(weights=weights, bias=bias), score(weights=scaled, bias=moved)
    assert np.allclose(one.probabilities(vectors), two.probabilities(vectors * 1000.0 + 7.0))


def test_at_the_solution_the_slope_is_the_penalty() -> None:
    vectors, _, same = drawn(300)
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    weights, bias = fit(vectors, same, l2=3.0)
    misses = same - score(weights=weights, bias=bias).probabilities(vectors)
    assert np.allclose(vectors.T @ misses, 3.0 * np.array(weights), atol=1e-6)
    assert abs(misses.sum()) < 1e-3


def test_what_is_parted_cleanly_and_what_never_varies_do_no_harm() -> None:
    vectors = np.zeros((40, WIDTH))
    vectors[20:, 0] = 1.0
    weights, bias = fit(vectors, vectors[:, 0] > 0.5)
    assert np.isfinite([*weights, bias]).all()
    assert weights[0] > 0.0
    assert weights[1:] == (0.0,) * (WIDTH - 1)


@pytest.mark.parametrize("same", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool), np.ones(3, dtype=bool)])
def test_a_fit_needs_both_kinds_and_a_label_for_each(same: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needed"):
        fit(np.zeros((4, WIDTH)), same)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=60), st.floats(0.0, 1.0))
def test_no_more_wrong_answers_than_asked_for_and_no_threshold_needlessly_high(
    found: list[tuple[float, bool]], rate: float
) -> None:
    chances = np.array([chance for chance, _ in found])
    same = np.array([is_same for _, is_same in found], dtype=bool)
    threshold = threshold_for(chances, same, rate)
    different = chances[~same]
    served = int((different >= threshold).sum())
    assert served <= rate * len(different) or threshold == 1.0
    lower = chances[chances < threshold]
    if len(lower) and threshold < 1.0:
        assert (different >= lower.max()).sum() > rate * len(different)


def test_a_probability_and_what_it_serves() -> None:
    one = score(weights=(2.0,) + (0.0,) * (WIDTH - 1), bias=-1.0, thresholds={"en": 0.5})
    vector = np.zeros(WIDTH)
    assert one.probability(vector) == pytest.approx(1.0 / (1.0 + np.e))
    assert not one.serves(vector, "en")
    vector[0] = 0.5
    assert one.probability(vector) == pytest.approx(0.5)
    assert one.serves(vector, "en")
    assert not one.serves(vector, "vi")
    assert not one.serves(vector, None)
    assert one.probabilities(np.array([vector, -1e9 * vector])).tolist() == [0.5, 0.0]


def test_a_score_survives_a_file() -> None:
    one = score(weights=tuple(float(place) for place in range(WIDTH)))
    assert Score.from_dict(json.loads(json.dumps(one.as_dict()))) == one


@pytest.mark.parametrize(
    "spoilt",
    [
        {"weights": {"cosine": 1.0}},
        {"weights": None},
        {"bias": "high"},
        {"bias": float("nan")},
        {"thresholds": {"en": 2.0}},
        {"thresholds": {"en": True}},
        {"thresholds": 0.9},
    ],
)
def test_what_is_no_score_is_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"score|threshold"):
        Score.from_dict({**score().as_dict(), **spoilt})


def test_a_score_of_other_features_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="weights"):
        score(weights=(1.0,))


def test_a_stricter_rate_has_a_higher_threshold_and_one_that_is_not_known_serves_nothing() -> None:
    at_rates = {"en": {0.001: 0.99, 0.05: 0.5}, "vi": {0.05: 0.6}}
    found = score(at_rates=at_rates)
    assert found.threshold("en") == found.threshold("en", 0.01) == 0.9
    assert found.threshold("en", 0.0005) is None
    assert found.threshold("en", 0.001) == found.threshold("en", 0.009) == 0.99
    assert found.threshold("en", 0.02) == 0.9
    assert found.threshold("en", 0.2) == 0.5
    assert found.threshold("vi") is found.threshold("vi", 0.01) is None
    assert found.threshold("vi", 0.05) == 0.6
    assert found.threshold(None, 0.05) is found.threshold("ko", 0.05) is None
    vector = np.full(WIDTH, 3.0 / WIDTH)  # log odds of 2, so 0.88
    assert found.log_odds(vector) == pytest.approx(2.0)
    assert [found.serves(vector, "en", rate) for rate in (0.001, 0.01, 0.05)] == [False, False, True]


def test_thresholds_of_all_rates_survive_a_file_and_are_probabilities() -> None:
    found = score(at_rates={"en": {0.001: 0.99, 0.05: 0.5}}, max_error_rate=0.02)
    assert Score.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    with pytest.raises(ValueError, match="probability"):
        score(at_rates={"en": {0.05: 1.5}})
    broken: object
    for broken in ([], {"en": 0.5}, {"en": {"0.05": "high"}}, {"en": {"often": 0.5}}):
        with pytest.raises(ValueError, match=r"rate|finite|float"):
            Score.from_dict({**found.as_dict(), "at_rates": broken})


@pytest.mark.parametrize("number", [10**400, float("inf"), float("nan"), None, True, "1"])
def test_a_number_that_is_none_is_told_as_such(number: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        Score.from_dict({**score().as_dict(), "bias": number})


def test_a_file_of_before_there_were_rates_is_of_one_percent() -> None:
    kept = {name: value for name, value in score().as_dict().items() if name not in ("at_rates", "max_error_rate")}
    assert Score.from_dict(kept) == score()
