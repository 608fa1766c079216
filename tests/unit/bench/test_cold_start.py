"""The process that is timed from nothing to its first token."""

import pytest

from genkan.bench.cold_start import measure_s
from genkan.errors import EngineFailed


def test_a_fresh_process_answers() -> None:
    assert measure_s("fast") > 0.2  # no interpreter has imported torch sooner


def test_one_that_ends_without_an_answer_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineFailed, match="ended with 1"):
        measure_s("no such profile")
    assert "ValidationError" in capfd.readouterr().err
