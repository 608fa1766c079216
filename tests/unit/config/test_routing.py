"""Models, their deployments, and routes: what fits together and what does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from genkan.config import Config, DeploymentConfig, load
from genkan.errors import ConfigError

UPSTREAMS = [
    {"name": "o", "kind": "openai", "base_url": "https://h/v1"},
    {"name": "p", "kind": "openai", "base_url": "https://i/v1"},
]


def loaded(tmp_path: Path, model: dict[str, Any], route: dict[str, Any] | None = None) -> Config:
    path = tmp_path / "genkan.yaml"
    settings: dict[str, Any] = {"upstreams": UPSTREAMS, "models": [{"name": "m", **model}]}
    if route is not None:
        settings["routes"] = [{"alias": "r", "chain": ["m"], **route}]
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load(path, {})


def test_an_upstream_is_short_for_one_deployment(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"upstream": "o"}).models[0].places == [DeploymentConfig(upstream="o")]


def test_deployments_have_a_name_there_and_a_weight(tmp_path: Path) -> None:
    deployments = [
        {"upstream": "o"},
        {"upstream": "p", "model": "vendor/m", "weight": 0},
    ]
    (model,) = loaded(tmp_path, {"deployments": deployments}).models
    assert [(place.upstream, place.model, place.weight) for place in model.places] == [
        ("o", None, 1), ("p", "vendor/m", 0),
    ]  # fmt: skip


def test_a_route_goes_on_for_errors_and_long_prompts_if_nothing_is_said(tmp_path: Path) -> None:
    (route,) = loaded(tmp_path, {"upstream": "o"}, {}).routes
    assert (route.fallback_on, route.total_s) == (["error", "context_too_long"], 600.0)
    assert (route.retry.max_retries, route.retry.budget_ratio, route.retry.budget_min) == (2, 0.2, 3)


@pytest.mark.parametrize("reasons", [[], ["error"], ["content_filter", "context_too_long", "error"]])
def test_a_route_says_for_what_it_goes_on(tmp_path: Path, reasons: list[str]) -> None:
    assert loaded(tmp_path, {"upstream": "o"}, {"fallback_on": reasons}).routes[0].fallback_on == reasons


@pytest.mark.parametrize(
    ("model", "path", "says"),
    [
        ({}, "models[0].deployments", "a model has either 'upstream' or a list of 'deployments'"),
        ({"deployments": []}, "models[0].deployments", "either 'upstream' or a list"),
        ({"upstream": "o", "deployments": [{"upstream": "p"}]}, "models[0].deployments", "either 'upstream' or a list"),
        ({"upstream": "x"}, "models[0].upstream", "'x' is not defined; allowed: o, p"),
        ({"deployments": [{"upstream": "o"}, {"upstream": "x"}]}, "models[0].deployments[1].upstream", "'x' is not"),
        ({"deployments": [{"weight": 1}]}, "models[0].deployments[0].upstream", "field required"),
        ({"deployments": [{"upstream": "o", "wait": 1}]}, "models[0].deployments[0].wait", "upstream, model, weight"),
        ({"deployments": [{"upstream": "o", "weight": -1}]}, "models[0].deployments[0].weight", "to 0; given: -1"),
        ({"deployments": [{"upstream": "o", "weight": 0.5}]}, "models[0].deployments[0].weight", "given: 0.5"),
        ({"deployments": [{"upstream": "o", "model": ""}]}, "models[0].deployments[0].model", "at least 1 character"),
        ({"deployments": [{"upstream": "o"}] * 2}, "models[0].deployments[1].upstream", "'o' is already taken"),
        (
            {"deployments": [{"upstream": "o"}, {"upstream": "p"}, {"upstream": "o", "model": "n"}]},
            "models[0].deployments[2].upstream",
            "'o' is already taken",
        ),
        ({"upstream": "o", "defaults": {"temperature": 0.5}}, "models[0].defaults", "only the engine's models have"),
        ({"upstream": "o", "defaults": {}}, "models[0].defaults", "only the engine's models have"),
        ({"upstream": "o", "context_tokens": 0}, "models[0].context_tokens", "greater than or equal to 1; given: 0"),
    ],
)
def test_a_wrong_model_is_named_with_what_is_allowed(
    tmp_path: Path, model: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, model)
    assert caught.value.path == path
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("route", "path", "says"),
    [
        ({"chain": ["m", "m"]}, "routes[0].chain[1]", "the name 'm' is already taken"),
        ({"chain": ["m", "x"]}, "routes[0].chain[1]", "'x' is not defined; allowed: m"),
        ({"fallback_on": ["errors"]}, "routes[0].fallback_on[0]", "'error', 'context_too_long' or 'content_filter'"),
        ({"fallback_on": "error"}, "routes[0].fallback_on", "valid list; given: 'error'"),
        ({"retry": {"max": 1}}, "routes[0].retry.max", "allowed: max_retries, backoff_s"),
        ({"retry": {"budget_ratio": 1.1}}, "routes[0].retry.budget_ratio", "less than or equal to 1; given: 1.1"),
        ({"total_s": 0}, "routes[0].total_s", "greater than 0; given: 0"),
    ],
)
def test_a_wrong_route_is_named_with_what_is_allowed(
    tmp_path: Path, route: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, {"upstream": "o"}, route)
    assert caught.value.path == path
    assert says in str(caught.value)


def test_what_a_route_can_do_besides_is_off_but_for_streams_that_go_on(tmp_path: Path) -> None:
    (route,) = loaded(tmp_path, {"upstream": "o"}, {}).routes
    assert (route.resume.enabled, route.resume.attempts, route.resume.other_models) == (True, 2, False)
    assert (route.hedge, route.canary, route.truncate) == (None, None, "off")
    (model,) = loaded(tmp_path, {"upstream": "o", "affinity": {}}).models
    assert (model.affinity is not None, model.resume_group) == (True, "")


@pytest.mark.parametrize("off", ["off", False])
def test_a_bare_off_is_the_word(tmp_path: Path, off: object) -> None:
    assert loaded(tmp_path, {"upstream": "o"}, {"truncate": off}).routes[0].truncate == "off"


def test_chats_are_cut_only_to_a_window_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"routes\[0\]\.truncate: 'oldest' needs to know .*: context_tokens of 'm'"):
        loaded(tmp_path, {"upstream": "o"}, {"truncate": "oldest"})
    loaded(tmp_path, {"upstream": "o", "context_tokens": 4096}, {"truncate": "oldest"})


def test_the_engines_window_may_be_known_by_the_engines_setting(tmp_path: Path) -> None:
    path = tmp_path / "genkan.yaml"
    settings: dict[str, Any] = {
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "engine"}],
        "routes": [{"alias": "r", "chain": ["m"], "truncate": "oldest"}],
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match="context_tokens of 'm'"):
        load(path, {})
    settings["engine"] = {"max_model_len": 512}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert load(path, {}).routes[0].truncate == "oldest"
