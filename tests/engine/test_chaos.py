"""A few hundred requests in chaos; ``python -m engine.chaos`` takes any number."""

from pathlib import Path

import pytest
from compiled_kernels import compiled_kernels
from engine.chaos import chaos, noisy, of_tiny_llama, requests_of
from running import one_torch_thread


@pytest.mark.parametrize(("kind", "number"), [("swap", 100), ("model", 100)])
def test_whom_nothing_was_done_to_does_not_notice(tmp_path: Path, kind: str, number: int) -> None:
    if kind == "model":
        compiled_kernels()  # so there is a compiler
    with one_torch_thread():
        make_runner = noisy if kind == "swap" else of_tiny_llama(tmp_path)
        outcome, compared = chaos(make_runner, requests_of(number, seed=2), seed=2, num_blocks=14)
    statistics = outcome.statistics
    assert compared >= number // 2
    assert set(outcome.errors) == {"EngineFailed", "ReaderTooSlow"}
    assert statistics.preemptions > 0
    assert statistics.failed_steps > 0
    assert (statistics.swaps > 0) == (kind == "swap")
