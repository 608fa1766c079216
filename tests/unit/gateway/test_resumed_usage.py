"""The usage of an answer in parts."""

from typing import Any

import pytest

from genkan.gateway.resumed_usage import resumed_usage
from genkan.wire.usage import Usage

PARTS = [{"model": "m", "way": "prefill"}]


def raw(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }


def test_what_was_said_moves_from_the_prompt_to_the_answer() -> None:
    whole = resumed_usage(raw(47, 20), "prefill", 40, PARTS)
    assert Usage.read(whole) == Usage(7, 60)
    assert whole is not None
    assert whole["resumed"] == PARTS


def test_the_engine_knows_better_how_much_that_is() -> None:
    whole = resumed_usage(raw(45, 20, continued_tokens=38), "prompt", 40, PARTS)
    assert Usage.read(whole) == Usage(7, 58)


@pytest.mark.parametrize("said", [None, True, -3, "38", 0])
def test_what_is_no_count_of_them_is_as_if_it_were_not_there(said: object) -> None:
    whole = resumed_usage(raw(47, 20, continued_tokens=said), "prompt", 40, PARTS)
    assert Usage.read(whole) == Usage(7, 60)


def test_a_replay_counts_all_by_itself() -> None:
    own = raw(7, 60, cached_tokens=3) | {"vendor": {"kept": True}}
    assert resumed_usage(own, "replay", 40, PARTS) == {**own, "resumed": PARTS}


def test_no_more_of_the_prompt_is_cached_than_there_is_of_it() -> None:
    whole = resumed_usage(raw(47, 20, cached_tokens=32), "prefill", 40, PARTS)
    assert Usage.read(whole) == Usage(7, 60, cached=7)


def test_what_was_written_to_a_cache_is_of_the_prompt_as_well() -> None:
    whole = resumed_usage(raw(47, 20, cached_tokens=3, cache_write_tokens=40), "prefill", 40, PARTS)
    assert Usage.read(whole) == Usage(7, 60, cached=3, cache_write=4)


def test_an_estimate_that_is_too_large_leaves_no_prompt_below_nothing() -> None:
    whole = resumed_usage(raw(10, 20), "prefill", 40, PARTS)
    assert Usage.read(whole) == Usage(0, 30)


def test_the_details_of_the_answer_stay() -> None:
    details = {"reasoning_tokens": 4}
    whole = resumed_usage(raw(47, 20) | {"completion_tokens_details": details}, "prefill", 40, PARTS)
    assert whole is not None
    assert whole["completion_tokens_details"] == details


def test_what_cannot_be_read_is_no_usage() -> None:
    assert resumed_usage({"prompt_tokens": "many"}, "prefill", 40, PARTS) is None
