"""What of two circuits holds when one worker tells another of its own."""

from dataclasses import replace

import orjson
import pytest

from genkan.gateway.breaker import Circuit
from genkan.gateway.told_circuit import ToldCircuit

NOW_S = 1000.0
THERE_S = 77.0  # the same moment by another worker's clock


def told(circuit: Circuit) -> ToldCircuit:
    """As another worker tells it, through the wire."""
    read = ToldCircuit.read(ToldCircuit.of("w", "primary", circuit, THERE_S).write())
    assert read is not None
    return read


def merged(ours: Circuit, theirs: Circuit, *, age_s: float | None = None) -> Circuit:
    told(theirs).merge_into(ours, NOW_S, age_s=age_s)
    return ours


def opened(generation: int = 1, *, open_s: float = 5.0, probes: int = 0, probe_s: float = 0.0) -> Circuit:
    return Circuit(
        generation=generation,
        consecutive=2,
        is_open=True,
        open_until_s=THERE_S + open_s,
        probes=probes,
        probe_until_s=THERE_S + probe_s if probe_s else 0.0,
    )


def here(circuit: Circuit) -> Circuit:
    """With its moments by our clock."""
    ours = replace(circuit)
    ours.open_until_s += NOW_S - THERE_S if circuit.open_until_s else 0.0
    ours.probe_until_s += NOW_S - THERE_S if circuit.probe_until_s else 0.0
    return ours


def test_what_is_told_is_read_as_it_was() -> None:
    message = ToldCircuit.of("w", "primary", opened(probes=3, probe_s=2.0), THERE_S)
    assert ToldCircuit.read(message.write()) == message
    assert (message.open_s, message.probe_s) == (5.0, 2.0)


def test_more_than_we_know_of_is_no_matter() -> None:
    message = orjson.loads(ToldCircuit.of("w", "primary", opened(), THERE_S).write())
    assert ToldCircuit.read(orjson.dumps(message | {"colour": "red"})) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": -1},
        {"generation": 1.5},
        {"generation": True},
        {"consecutive": "1"},
        {"is_open": 1},
        {"open_s": -1.0},
        {"open_s": 1e9},
        {"probe_s": None},
        {"worker": 1},
        {"deployment": None},
    ],
)
def test_what_cannot_be_is_not_read(wrong: dict[str, object]) -> None:
    message = orjson.loads(ToldCircuit.of("w", "primary", opened(), THERE_S).write())
    assert ToldCircuit.read(orjson.dumps(message | wrong)) is None


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'"told"'])
def test_what_is_no_message_is_not_read(message: bytes) -> None:
    assert ToldCircuit.read(message) is None


def test_a_higher_generation_is_taken_whole_but_for_what_is_in_flight() -> None:
    ours = Circuit(consecutive=1, attempts=8.0, failures=3.0, in_flight=4)
    merged(ours, opened(probes=2, probe_s=3.0))
    assert (ours.generation, ours.is_open, ours.consecutive, ours.probes) == (1, True, 2, 2)
    assert (ours.open_until_s, ours.probe_until_s) == (NOW_S + 5.0, NOW_S + 3.0)
    assert (ours.attempts, ours.failures, ours.in_flight) == (8.0, 3.0, 4)


def test_when_they_closed_it_our_counts_are_forgotten_as_theirs_are() -> None:
    ours = merged(here(opened(1)), Circuit(generation=2))
    assert not ours.is_open
    assert (ours.consecutive, ours.attempts, ours.failures, ours.open_until_s) == (0, 0.0, 0.0, 0.0)


def test_a_lower_generation_says_nothing() -> None:
    ours = here(opened(3, probes=1))
    assert merged(replace(ours), opened(2, open_s=60.0, probes=9, probe_s=9.0)) == ours


@pytest.mark.parametrize(("ours", "theirs", "both"), [(0, 1, 1), (3, 1, 3), (1, 3, 3), (3, 0, 0)])
def test_failures_in_a_row_are_counted_by_all_until_one_succeeds(ours: int, theirs: int, both: int) -> None:
    assert merged(Circuit(consecutive=ours), Circuit(consecutive=theirs)).consecutive == both


def test_an_old_success_does_not_end_a_row_of_failures() -> None:
    assert merged(Circuit(consecutive=3), Circuit(consecutive=0), age_s=60.0).consecutive == 3


def test_the_later_of_two_openings_holds() -> None:
    assert merged(here(opened(open_s=5.0)), opened(open_s=4.0)).open_until_s == NOW_S + 5.0
    assert merged(here(opened(open_s=5.0)), opened(open_s=6.0)).open_until_s == NOW_S + 6.0


def test_a_probe_of_theirs_is_one_of_ours() -> None:
    ours = merged(here(opened(open_s=0.0)), opened(open_s=0.0, probes=1, probe_s=5.0))
    assert (ours.probes, ours.probe_until_s) == (1, NOW_S + 5.0)


def test_a_probe_that_they_ended_has_ended() -> None:
    ours = merged(here(opened(probes=1, probe_s=5.0)), opened(probes=1))
    assert ours.probe_until_s == 0.0


def test_a_probe_that_ended_is_not_begun_again_by_old_news() -> None:
    ours = merged(here(opened(probes=1)), opened(probes=1, probe_s=5.0))
    assert ours.probe_until_s == 0.0


def test_the_end_of_an_earlier_probe_does_not_end_a_later() -> None:
    ours = merged(here(opened(probes=2, probe_s=5.0)), opened(probes=1))
    assert (ours.probes, ours.probe_until_s) == (2, NOW_S + 5.0)


def test_of_two_probes_that_ran_at_once_the_one_that_was_answered_holds() -> None:
    """On both sides, whoever hears of the other first."""
    one, other = merged(here(opened(2)), Circuit(generation=2)), merged(Circuit(generation=2), opened(2))
    assert not one.is_open
    assert not other.is_open


def test_what_is_old_has_that_much_less_to_run() -> None:
    ours = merged(Circuit(), opened(open_s=5.0, probes=1, probe_s=2.0), age_s=3.0)
    assert (ours.open_until_s, ours.probe_until_s) == (NOW_S + 2.0, 0.0)
