"""Upstreams in the file: their kinds, what each may say, and that no secret is ever printed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from genkan.config import Config, EngineUpstreamConfig, OpenAiUpstreamConfig, load
from genkan.errors import ConfigError

SECRET = "s3cr3t-of-ours"


def loaded(tmp_path: Path, *upstreams: dict[str, Any]) -> Config:
    path = tmp_path / "genkan.yaml"
    settings = {"upstreams": list(upstreams), "models": [{"name": "m", "upstream": "o"}]}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load(path, {})


def openai(**settings: Any) -> dict[str, Any]:
    return {"name": "o", "kind": "openai", "base_url": "https://h/v1", **settings}


def refusal(tmp_path: Path, *upstreams: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, *upstreams)
    assert SECRET not in str(caught.value)
    return caught.value


# Kinds


def test_the_smallest_upstream_has_every_other_setting_at_its_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, openai())
    (upstream,) = config.openai_upstreams
    assert (upstream.base_url, upstream.api_key_env, upstream.headers) == ("https://h/v1", None, {})
    assert (upstream.connections.limit, upstream.connections.keep_alive) == (100, 20)
    assert (upstream.timeouts.connect_s, upstream.breaker.open_s, upstream.stream_usage) == (2.0, 30.0, True)


def test_a_gateway_needs_no_engine(tmp_path: Path) -> None:
    config = loaded(tmp_path, openai())
    assert config.engine_upstream is None
    assert config.engine_models == {}


def test_both_kinds_can_stand_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "genkan.yaml"
    settings = {
        "upstreams": [openai(), {"name": "e", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "o"}, {"name": "own", "deployments": [{"upstream": "e", "weight": 3}]}],
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = load(path, {})
    assert [type(upstream) for upstream in config.upstreams] == [OpenAiUpstreamConfig, EngineUpstreamConfig]
    assert config.engine_upstream is not None
    assert (config.engine_upstream.name, list(config.engine_models)) == ("e", ["own"])
    assert [upstream.name for upstream in config.openai_upstreams] == ["o"]


@pytest.mark.parametrize(
    ("upstream", "path", "says"),
    [
        ({"name": "o"}, "upstreams[0].kind", "field required: 'engine', 'openai', 'vllm' or 'sglang'"),
        (
            {"name": "o", "kind": "tgi"},
            "upstreams[0].kind",
            "must be 'engine', 'openai', 'vllm' or 'sglang'; given: 'tgi'",
        ),
        ({"name": "o", "kind": ["openai"]}, "upstreams[0].kind", "must be 'engine', 'openai', 'vllm' or 'sglang'"),
        ({"name": "o", "kind": "openai"}, "upstreams[0].base_url", "field required"),
        (
            {"name": "e", "kind": "engine", "base_url": "http://h"},
            "upstreams[0].base_url",
            "unknown key; allowed: name",
        ),
        (openai(api_key=SECRET), "upstreams[0].api_key", "unknown key; allowed: name, timeouts, breaker, kind, serve"),
        (
            openai(connections={"x": 1}),
            "upstreams[0].connections.x",
            "allowed: limit, queue, queue_s, keep_alive, keep",
        ),
        (openai(health={"x": 1}), "upstreams[0].health.x", "allowed: interval_s, timeout_s, unhealthy_after"),
        (openai(breaker={"x": 1}), "upstreams[0].breaker.x", "allowed: consecutive_failures, alone_failures"),
        (openai(timeouts={"x": 1}), "upstreams[0].timeouts.x", "allowed: connect_s, first_token_s"),
        (openai(breaker={"failure_ratio": 0}), "upstreams[0].breaker.failure_ratio", "greater than 0; given: 0"),
        (openai(connections={"limit": 0}), "upstreams[0].connections.limit", "greater than or equal to 1; given: 0"),
        (openai(health={"interval_s": -1}), "upstreams[0].health.interval_s", "greater than or equal to 0; given: -1"),
        (openai(stream_usage="yes"), "upstreams[0].stream_usage", "valid boolean; given: 'yes'"),
        (openai(api_key_env=5), "upstreams[0].api_key_env", "valid string"),
    ],
)
def test_a_wrong_setting_is_named_by_its_place_in_the_file(
    tmp_path: Path, upstream: dict[str, Any], path: str, says: str
) -> None:
    error = refusal(tmp_path, upstream)
    assert error.path == path
    assert says in str(error)


def test_the_place_counts_from_the_first_of_all_kinds(tmp_path: Path) -> None:
    assert refusal(tmp_path, openai(), openai(name="p", x=1)).path == "upstreams[1].x"


# Where it is


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "http://[::1]:8000",
        "https://h",
        "http://my_host:1/v1",
        "https://h/a%20b/v1",
    ],
)
def test_a_base_url_is_kept_but_for_its_last_slashes(tmp_path: Path, url: str) -> None:
    for written in (url, f"{url}/"):
        assert loaded(tmp_path, openai(base_url=written)).openai_upstreams[0].base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "h/v1", "//h/v1", "ftp://h/v1", "file:///etc/passwd", "http://", "http:///v1", "http://h:0/v1",
        "http://h:99999/v1", "http://h:x/v1", f"http://user:{SECRET}@h/v1", f"https://h/v1?key={SECRET}",
        f"https://h/v1#{SECRET}", "http://[::1/v1", "http://[1:2]/v1", "https://h/ v1", "https://h\n", "https://h//v1",
        " https://h",
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    error = refusal(tmp_path, openai(base_url=url))
    assert error.path == "upstreams[0].base_url"
    assert "must be http:// or https://" in str(error)


# Headers and keys


def test_headers_are_kept_as_written(tmp_path: Path) -> None:
    headers = {"X-Team": "a b", "OpenAI-Organization": "org", "x-empty": ""}
    assert loaded(tmp_path, openai(headers=headers)).openai_upstreams[0].headers == headers


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Authorization": SECRET}, "'Authorization' is written by genkan itself"),
        ({"HOST": SECRET}, "'HOST' is written by genkan itself"),
        ({"content-length": SECRET}, "'content-length' is written by genkan itself"),
        ({"Transfer-Encoding": SECRET}, "written by genkan itself"),
        ({"a b": SECRET}, "'a b' is not a header name"),
        ({"": SECRET}, "'' is not a header name"),
        ({"x:": SECRET}, "is not a header name"),
        ({"x_y": SECRET}, "is not a header name"),
        ({"x": f"{SECRET}\r\nhost: h"}, "'x' is not a header name of ASCII letters with a value of printable ASCII"),
        ({"x": f"{SECRET}é"}, "with a value of printable ASCII"),
        ({"x" * 65: SECRET}, "is not a header name"),
        ({"x": SECRET * 1000}, "with a value of printable ASCII"),
        ({"X-Team": SECRET, "x-team": "b"}, "a header is given twice"),
        (SECRET, "valid dictionary"),
        ([SECRET], "valid dictionary"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_and_its_value_not_printed(
    tmp_path: Path, headers: Any, says: str
) -> None:
    error = refusal(tmp_path, openai(headers=headers))
    assert error.path == "upstreams[0].headers"
    assert says in str(error)


def test_a_header_of_another_type_is_not_printed_either(tmp_path: Path) -> None:
    assert refusal(tmp_path, openai(headers={"x": [SECRET]})).path == "upstreams[0].headers.x"


def test_a_key_in_place_of_its_variables_name_is_not_printed(tmp_path: Path) -> None:
    assert refusal(tmp_path, openai(api_key_env=SECRET)).path == "upstreams[0].api_key_env"


def test_a_section_that_is_no_section_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "genkan.yaml"
    settings = {"upstreams": openai(headers={"x": SECRET}), "models": [{"name": "m", "upstream": "o"}]}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.path == "upstreams"
    assert SECRET not in str(caught.value)
