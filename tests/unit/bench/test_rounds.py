"""Arms take turns, and are compared by medians."""

from collections.abc import Mapping

import pytest

from genkan.bench.rounds import Rounds, interleaved


def measured(**arms: list[float]) -> Rounds:
    rounds = Rounds(arms)
    for arm, values in arms.items():
        for value in values:
            rounds.add(arm, {"tok_s": value})
    return rounds


def test_the_median_is_over_the_rounds() -> None:
    assert measured(genkan=[1.0, 50.0, 2.0]).median("genkan", "tok_s") == 2.0


def test_a_ratio_is_of_medians_with_the_spread_of_the_rounds() -> None:
    ratio = measured(genkan=[10.0, 30.0, 20.0], other=[10.0, 10.0, 5.0]).ratio("tok_s", "genkan", "other")
    assert ratio == (2.0, 1.0, 4.0)
    assert str(ratio) == "2 (rounds: 1 to 4)"


def test_what_was_not_measured_is_no_zero() -> None:
    rounds = measured(genkan=[1.0])
    with pytest.raises(KeyError):
        rounds.median("genkan", "rps")
    with pytest.raises(KeyError):
        rounds.median("other", "tok_s")


def test_every_arm_runs_once_a_round_and_each_is_first_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def arm(name: str) -> Mapping[str, float]:
        ran.append(name)
        return {"number": len(ran)}

    rounds = interleaved("title", {"a": lambda: arm("a"), "b": lambda: arm("b")}, rounds=3)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert rounds.values("a", "number") == [1, 4, 5]
    assert rounds.arms == ["a", "b"]
    assert "title: round 2 of 3, b" in capsys.readouterr().err
