"""What upstreams say that a request took, in every shape there is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.wire.usage import MAX_TOKENS, Usage

COUNTS: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 4), st.sampled_from([None, True, 2.0, 0.5, -1, "3", [], {}, 10**9, 10**9 + 1])
)
CACHES = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "cache_creation_tokens", "audio_tokens"]), COUNTS
)
ODD_USAGES = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens",
            "input_tokens", "output_tokens",
        ]
    ),
    COUNTS,
)  # fmt: skip
LIKELY_USAGES = st.builds(
    lambda prompt, completion, off, more: {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion + off, **more
    },
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([0, 0, 0, 1, -1, 10**9]),
    st.dictionaries(st.sampled_from(["prompt_cache_hit_tokens", "cache_creation_input_tokens", "cost"]), COUNTS),
)  # fmt: skip
NO_COUNTS = ["5", "", 5.5, float("nan"), float("inf"), -1, -1.0, True, False, [], {}, 10**9 + 1, 1e10, 1 << 70]
SHAPES: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "openai",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 256, "accepted_prediction_tokens": 0},
        },
        Usage(2006, 300, cached=1920),
    ),
    ("plain", {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}, Usage(9, 12)),
    ("no total", {"prompt_tokens": 9, "completion_tokens": 12}, Usage(9, 12)),
    ("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0)),
    (
        "deepseek",
        {
            "prompt_tokens": 100,
            "completion_tokens": 7,
            "total_tokens": 107,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
        Usage(100, 7, cached=64),
    ),
    (
        "moonshot",
        {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10},
        Usage(19, 21, 10),
    ),
    (
        "anthropic, its OpenAI endpoint",
        {
            "prompt_tokens": 14,
            "completion_tokens": 5,
            "total_tokens": 19,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        Usage(14, 5),
    ),
    (
        "anthropic, its own",
        {
            "input_tokens": 21,
            "output_tokens": 393,
            "cache_read_input_tokens": 5000,
            "cache_creation_input_tokens": 188,
            "cache_creation": {"ephemeral_5m_input_tokens": 188, "ephemeral_1h_input_tokens": 0},
        },
        Usage(5209, 393, cached=5000, cache_write=188),
    ),
    (
        "anthropic, half translated: the caches are outside",
        {
            "prompt_tokens": 21,
            "completion_tokens": 393,
            "total_tokens": 5602,
            "cache_read_input_tokens": 5000,
            "cache_creation_input_tokens": 188,
        },
        Usage(5209, 393, cached=5000, cache_write=188),
    ),
    (
        "litellm: the caches are inside",
        {
            "prompt_tokens": 5209,
            "completion_tokens": 393,
            "total_tokens": 5602,
            "prompt_tokens_details": {"cached_tokens": 5000, "cache_creation_tokens": 188},
            "cache_read_input_tokens": 5000,
            "cache_creation_input_tokens": 188,
        },
        Usage(5209, 393, cached=5000, cache_write=188),
    ),
    (
        "responses",
        {"input_tokens": 75, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 9, "total_tokens": 84},
        Usage(75, 9, cached=40),
    ),
    (
        "gemini: thoughts are in the total only",
        {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 313},
        Usage(8, 305),
    ),
    ("gemini: all of the answer was thought", {"prompt_tokens": 8, "total_tokens": 72}, Usage(8, 64)),
    (
        "vllm",
        {"prompt_tokens": 5, "completion_tokens": 16, "total_tokens": 21, "prompt_tokens_details": None},
        Usage(5, 16),
    ),
    (
        "sglang",
        {
            "prompt_tokens": 5,
            "completion_tokens": 16,
            "total_tokens": 21,
            "reasoning_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": None},
        },
        Usage(5, 16),
    ),
    (
        "openrouter: its cost is its own",
        {
            "prompt_tokens": 194,
            "completion_tokens": 2,
            "total_tokens": 196,
            "cost": 0.95,
            "cost_details": {"upstream_inference_cost": None},
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
        },
        Usage(194, 2, cache_write=100),
    ),
    ("a total that is too small", {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 0}, Usage(9, 12)),
    ("nothing was used", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0)),
]


@pytest.mark.parametrize(("raw", "usage"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_every_provider_is_understood(raw: dict[str, Any], usage: Usage) -> None:
    assert Usage.read(raw) == usage
    assert usage.total == usage.prompt + usage.completion


@pytest.mark.parametrize(
    "raw", [None, {}, {"prompt_tokens": 3}, {"completion_tokens": 3}, {"output_tokens": 3}, {"cost": 1}]
)
def test_too_little_is_none(raw: dict[str, Any] | None) -> None:
    assert Usage.read(raw) is None


@pytest.mark.parametrize("count", NO_COUNTS)
@pytest.mark.parametrize(
    "path",
    ["prompt_cache_hit_tokens", "cache_creation_input_tokens", "prompt_tokens_details.cached_tokens"],
)
def test_a_detail_that_is_no_count_is_left_out(path: str, count: Any) -> None:
    raw: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21, "prompt_tokens_details": {}}
    *parents, last = path.split(".")
    section = raw[parents[0]] if parents else raw
    section[last] = count
    assert Usage.read(raw) == Usage(9, 12)


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
@pytest.mark.parametrize("count", NO_COUNTS)
def test_what_is_no_count_makes_it_none(name: str, count: Any) -> None:
    assert Usage.read({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21, name: count}) is None


def test_whole_floats_are_counts() -> None:
    usage = Usage.read({"prompt_tokens": 9.0, "completion_tokens": 12.0, "total_tokens": 21})
    assert usage == Usage(9, 12)
    assert usage is not None
    assert (type(usage.prompt), type(usage.completion)) == (int, int)


@pytest.mark.parametrize("raw", ["text", 5, [1], True])
def test_usage_that_is_no_object_is_none(raw: object) -> None:
    assert Usage.read(raw) is None


@pytest.mark.parametrize("details", ["text", 5, [], [1], True])
def test_details_that_are_no_object_are_left_out(details: Any) -> None:
    assert Usage.read({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details}) == Usage(9, 1)
    assert Usage.read({"input_tokens": 9, "output_tokens": 1, "input_tokens_details": details}) == Usage(9, 1)


def test_the_largest_count_still_is_one() -> None:
    assert Usage.read({"prompt_tokens": MAX_TOKENS, "completion_tokens": 0}) == Usage(MAX_TOKENS, 0)


@given(st.one_of(LIKELY_USAGES, ODD_USAGES), st.one_of(st.none(), CACHES, st.sampled_from(["text", [], 5])))
def test_what_is_read_at_once_is_read_the_same_when_all_names_are_looked_for(raw: dict[str, Any], details: Any) -> None:
    if details is not None:
        raw = {**raw, "prompt_tokens_details": details}
    usage = Usage.read(raw)
    assert usage == Usage.read({"cached_tokens": 0, **raw})  # says nothing, but is not one of the usual names
    if usage is not None:
        counts = (usage.prompt, usage.completion, usage.cached, usage.cache_write)
        assert [type(count) for count in counts] == [int] * 4
