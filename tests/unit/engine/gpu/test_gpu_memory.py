"""How much of a GPU KV blocks get."""

from typing import Any

import pytest

from genkan.engine.gpu.gpu_memory import kv_budget_bytes
from genkan.errors import ConfigError

GB = 1 << 30


def budget(**given: Any) -> int:
    return kv_budget_bytes(**({"free": 20 * GB, "step": 2 * GB, "share": None, "wanted": None} | given))


def test_nine_tenths_of_what_weights_and_a_step_leave() -> None:
    assert budget() == int(0.9 * 18 * GB)


def test_another_share_or_so_many_bytes() -> None:
    assert budget(share=0.5) == 9 * GB
    assert budget(share=0.5, wanted=3 * GB) == 3 * GB
    assert budget(wanted=18 * GB) == 18 * GB


def test_more_than_there_is_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=f"kv_memory_bytes: must be at most .*, {18 * GB}; given: {18 * GB + 1}"):
        budget(wanted=18 * GB + 1)


@pytest.mark.parametrize("step", [20 * GB, 21 * GB])
def test_a_step_that_leaves_nothing_is_refused(step: int) -> None:
    with pytest.raises(ConfigError, match="max_batched_tokens"):
        budget(step=step)
