"""genkan's own options in a request body."""

from typing import Any

import pytest

from genkan.errors import InvalidRequest
from genkan.wire.extras import NO_EXTRAS, OWN_KEYS, SHORT_FORMS, Extras, read_extras, without_extras


def test_a_body_without_extras_has_none() -> None:
    assert read_extras({"model": "m", "cache": "only"}) is NO_EXTRAS


def test_reads_every_option() -> None:
    options: dict[str, Any] = {
        "cache": "no-store",
        "cache_ttl_s": 60,
        "prefix_cache": False,
        "prefix_ttl_s": 86_400,
        "prefix_pin": True,
        "priority": -100,
        "tags": ["a", "b"],
    }
    assert read_extras({"genkan": options}) == Extras(**{**options, "tags": ("a", "b")})


@pytest.mark.parametrize(
    "raw", [{"genkan": None}, {"genkan": {}}, {"genkan": {"cache": None, "tags": None}}, {"prompt_cache": None}]
)
def test_null_is_as_configured(raw: dict[str, Any]) -> None:
    assert read_extras(raw) == NO_EXTRAS


@pytest.mark.parametrize(
    ("short", "option", "value"),
    [
        ("prompt_cache", "prefix_cache", False),
        ("prefix_caching", "prefix_cache", True),
        ("cache_ttl_seconds", "prefix_ttl_s", 30),
        ("high_priority", "prefix_pin", True),
    ],
)
def test_a_short_form_stands_for_its_option(short: str, option: str, value: object) -> None:
    assert read_extras({short: value}) == read_extras({"genkan": {option: value}}) != NO_EXTRAS


def test_every_short_form_is_tested() -> None:
    assert set(SHORT_FORMS) == {"prompt_cache", "prefix_caching", "cache_ttl_seconds", "high_priority"}


def test_the_same_option_may_be_given_twice_alike() -> None:
    raw = {"genkan": {"prefix_cache": False}, "prompt_cache": False, "prefix_caching": False}
    assert read_extras(raw).prefix_cache is False


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"prompt_cache": True, "prefix_caching": False}, "prefix_caching"),
        ({"prompt_cache": True, "genkan": {"prefix_cache": False}}, "prompt_cache"),
        ({"cache_ttl_seconds": 1, "genkan": {"prefix_ttl_s": 2}}, "cache_ttl_seconds"),
        ({"high_priority": False, "genkan": {"prefix_pin": True}}, "high_priority"),
    ],
)
def test_options_that_contradict_each_other_are_refused(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="contradict each other") as caught:
        read_extras(raw)
    assert caught.value.param == param


@pytest.mark.parametrize("value", [None, "auto"])
def test_cache_control_auto_changes_nothing(value: str | None) -> None:
    assert read_extras({"cache_control": value}) == NO_EXTRAS


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"cache_control": {"type": "ephemeral"}}, "cache_control"),
        ({"cache_control": ""}, "cache_control"),
        ({"genkan": []}, "genkan"),
        ({"genkan": {"cash": "only"}}, "genkan.cash"),
        ({"genkan": {"cache": "never"}}, "genkan.cache"),
        ({"genkan": {"cache": True}}, "genkan.cache"),
        ({"genkan": {"cache_ttl_s": 0}}, "genkan.cache_ttl_s"),
        ({"genkan": {"cache_ttl_s": 30 * 86_400 + 1}}, "genkan.cache_ttl_s"),
        ({"genkan": {"prefix_ttl_s": 0}}, "genkan.prefix_ttl_s"),
        ({"genkan": {"prefix_ttl_s": 86_401}}, "genkan.prefix_ttl_s"),
        ({"genkan": {"prefix_cache": 1}}, "genkan.prefix_cache"),
        ({"genkan": {"prefix_pin": "true"}}, "genkan.prefix_pin"),
        ({"genkan": {"priority": 101}}, "genkan.priority"),
        ({"genkan": {"priority": 1.0}}, "genkan.priority"),
        ({"genkan": {"tags": "a"}}, "genkan.tags"),
        ({"genkan": {"tags": [""]}}, "genkan.tags"),
        ({"genkan": {"tags": ["a" * 65]}}, "genkan.tags"),
        ({"genkan": {"tags": [1]}}, "genkan.tags"),
        ({"genkan": {"tags": ["a"] * 17}}, "genkan.tags"),
        ({"prompt_cache": "yes"}, "prompt_cache"),
        ({"cache_ttl_seconds": 0}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": 86_401}, "cache_ttl_seconds"),
        ({"high_priority": 1}, "high_priority"),
    ],
)
def test_a_wrong_option_is_refused_by_its_path(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param) as caught:
        read_extras(raw)
    assert caught.value.param == param


def test_tags_may_be_as_many_and_as_long_as_allowed() -> None:
    assert len(read_extras({"genkan": {"tags": ["a" * 64] * 16}}).tags) == 16


def test_takes_out_every_key_of_ours_and_no_other() -> None:
    raw = {"model": "m", **dict.fromkeys(OWN_KEYS, 1), "prompt_cache_key": "k"}
    assert without_extras(raw) == {"model": "m", "prompt_cache_key": "k"}


def test_the_body_itself_is_left_as_it_was() -> None:
    raw = {"model": "m", "genkan": {"cache": "only"}}
    without_extras(raw)
    assert raw == {"model": "m", "genkan": {"cache": "only"}}


def test_a_body_without_extras_is_not_copied() -> None:
    raw = {"model": "m"}
    assert without_extras(raw) is raw
