"""Of which requests an answer can be stored."""

from typing import Any

import pytest
from stored_answers import chat, completion

from genkan.cache.cacheable import is_deterministic, is_storable

FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 0.0}, {"seed": 0}, {"seed": 7, "temperature": 1}]
)
def test_zero_or_a_seed_is_deterministic(options: dict[str, Any]) -> None:
    assert is_deterministic(chat(**options))


@pytest.mark.parametrize("options", [{}, {"temperature": 0.01}, {"temperature": None}, {"top_p": 0.1}, {"seed": None}])
def test_all_else_is_not(options: dict[str, Any]) -> None:
    assert not is_deterministic(chat(**options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"logprobs": False},
        {"store": False},
        {"store": None},
        {"modalities": ["text"]},
        {"tools": [FUNCTION], "tool_choice": "auto"},
        {"tools": None},
        {"n": 1},
        {"stream": True},
        {"response_format": {"type": "json_object"}},
        {"unknown": 1},
    ],
)
def test_one_plain_text_can_be_stored(options: dict[str, Any]) -> None:
    assert is_storable(chat(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"logprobs": True},
        {"store": True},
        {"audio": {"voice": "x"}},
        {"modalities": ["text", "audio"]},
        {"modalities": []},
        {"web_search_options": {}},
        {"plugins": [{"id": "web"}]},
        {"search_parameters": {"mode": "auto"}},
        {"models": ["a"]},
        {"fallbacks": ["a"]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [FUNCTION, {"google_search": {}}]},
        {"tools": "x"},
        {"prompt_logprobs": 0},
    ],
)
def test_what_may_be_more_or_only_of_today_cannot(options: dict[str, Any]) -> None:
    assert not is_storable(chat(**options))


def test_one_prompt_a_completion() -> None:
    assert is_storable(completion("a"))
    assert is_storable(completion([1, 2]))
    assert is_storable(completion(["a"], best_of=1, echo=True))
    assert not is_storable(completion(["a", "b"]))
    assert not is_storable(completion("a", best_of=2))
    assert not is_storable(completion("a", logprobs=0))
