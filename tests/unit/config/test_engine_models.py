"""Several models of the engine's, each with settings of its own."""

from pathlib import Path

import pytest

from genkan.config import Config, load
from genkan.errors import ConfigError

UPSTREAMS = "upstreams: [{name: e, kind: engine}]\n"


def loaded(directory: Path, text: str) -> Config:
    path = directory / "genkan.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def test_a_model_has_the_engines_settings_but_for_its_own(tmp_path: Path) -> None:
    text = """
        upstreams: [{name: e, kind: engine}]
        engine: {threads: 2, kv_memory_share: 0.2, model: first.gguf}
        models:
        - {name: m, upstream: e}
        - {name: n, upstream: e, engine: {model: second.gguf, threads: null}}
        """
    config = loaded(tmp_path, text)
    first, second = (config.engine_of(model) for model in config.models)
    assert first is config.engine
    assert (second.model, second.threads, second.kv_memory_share) == ("second.gguf", None, 0.2)
    assert list(config.engine_models) == ["m", "n"]


def test_the_engine_knows_a_model_by_the_name_of_its_deployment(tmp_path: Path) -> None:
    config = loaded(tmp_path, UPSTREAMS + "models: [{name: m, deployments: [{upstream: e, model: other}]}]")
    assert {name: model.name for name, model in config.engine_models.items()} == {"other": "m"}


@pytest.mark.parametrize(
    ("models", "path", "says"),
    [
        (
            "models: [{name: m, upstream: e}, {name: n, upstream: e}]",
            "models[1].engine.model",
            "must name a file, as 'm' has the one of engine.model",
        ),
        (
            "models: [{name: m, upstream: e}, {name: n, deployments: [{upstream: e, model: m}], engine: {model: x}}]",
            "models",
            "the engine's models must have different names there; given: m, n",
        ),
        (
            "models: [{name: m, upstream: e, engine: {max_sequences: 600, max_batched_tokens: 100}}]",
            "models[0].engine.max_batched_tokens",
            "must be at least max_sequences, 600, as each running sequence takes a token of a step",
        ),
        (
            "models: [{name: m, upstream: e, engine: {max_batched_tokens: 16}}]",
            "models[0].engine.max_batched_tokens",
            "must be at least max_sequences, 64, as each running sequence takes a token of a step",
        ),
        (
            "models: [{name: m, upstream: e, engine: {profil: fast}}]",
            "models[0].engine.profil",
            "unknown key",
        ),
    ],
)
def test_what_does_not_go_together_is_named_by_its_path(tmp_path: Path, models: str, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, UPSTREAMS + models)
    assert caught.value.path == path
    assert says in str(caught.value)
