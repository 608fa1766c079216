"""What is found wrong with a configuration before anything starts."""

from typing import Any

import pytest

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.preflight import check_settings, check_variables


def config(**sections: Any) -> Config:
    upstreams, models = [{"name": "e", "kind": "engine"}], [{"name": "m", "upstream": "e"}]
    return Config.model_validate({"upstreams": upstreams, "models": models, **sections})


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"prices": {"models": [{"model": "m", "input": 1}]}}, "prices.models[0]"),
        ({"prices": {"models": [{"model": "m", "flat": 1, "currency": "EUR"}]}}, "prices.models[0].currency"),
        ({"redis": {"url": "redis://h:port"}}, "redis.url"),
        ({"redis": {"url": "redis://master", "sentinels": ["h:0"]}}, "redis.sentinels[0]"),
        ({"redis": {"url_env": "REDIS_URL"}}, "redis.url"),
        ({"cache": {"url_env": "REDIS_URL"}}, "cache.url_env"),
    ],
)
def test_names_the_setting(sections: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(config(**sections), {"REDIS_URL": "redis://us:geheim1@h/x"})
    assert caught.value.path == path
    assert "geheim1" not in str(caught.value)


def test_what_can_be_served_passes() -> None:
    check_settings(config(), {})
    check_settings(config(redis={"url": "memory"}), {})
    check_settings(config(redis={"url_env": "REDIS_URL"}), {"REDIS_URL": "rediss://h:6380/1"})
    check_settings(config(redis={"url_env": "REDIS_URL"}), {})  # it is set where the server runs


def test_a_variable_must_be_set_where_it_is_served() -> None:
    elsewhere = config(cache={"url_env": "ANSWERS_URL"})
    check_settings(elsewhere, {})
    with pytest.raises(ConfigError, match="ANSWERS_URL is not set") as caught:
        check_variables(elsewhere, {"ANSWERS_URL": ""})
    assert caught.value.path == "cache.url_env"
    check_variables(elsewhere, {"ANSWERS_URL": "redis://h"})
    check_variables(config(cache={"url_env": "ANSWERS_URL", "enabled": False}), {})
    check_variables(config(), {})
