"""The configuration file: what loads, and what an error says about what does not."""

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from genkan.config import Config, config_path, load
from genkan.errors import ConfigError

ROOT = Path(__file__).parents[2]
#: The price list is a part of others.
SHIPPED = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "prices.yaml")
SCHEMA: dict[str, Any] = json.loads((ROOT / "configs/schema.json").read_text(encoding="utf-8"))

SMALL = """\
upstreams: [{name: e, kind: engine}]
models: [{name: m, upstream: e}]
"""


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "genkan.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {})


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    return caught.value


def sections(section: type[BaseModel] = Config) -> Iterator[type[BaseModel]]:
    """Every section of the configuration, found by walking the types."""
    yield section
    for field in section.model_fields.values():
        kinds: list[Any] = [field.annotation]
        while kinds:
            kind = kinds.pop()
            kinds += getattr(kind, "__args__", ())
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from sections(kind)


# What loads


def test_the_smallest_file_has_every_other_setting_at_its_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALL)
    assert (config.server.workers, config.server.open_to, config.routes) == (1, "loopback", [])
    assert config.engine_upstream is not None
    assert (config.engine_upstream.name, list(config.engine_models)) == ("e", ["m"])


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    assert repr(loaded(tmp_path, SMALL + "server: {body_timeout_s: 3}").server.body_timeout_s) == "3.0"


def test_a_date_is_read(tmp_path: Path) -> None:
    text = SMALL.replace("upstream: e}", "upstream: e, released: 2024-11-01}")
    assert loaded(tmp_path, text).models[0].released == date(2024, 11, 1)


def test_a_merge_key_is_no_duplicate(tmp_path: Path) -> None:
    text = "upstreams: [{name: e, kind: engine}]\nmodels: [{<<: {upstream: e, owned_by: a}, name: m, owned_by: b}]\n"
    assert loaded(tmp_path, text).models[0].owned_by == "b"


@pytest.mark.parametrize("written", ["off", "'off'", "false"])
def test_preemption_can_be_off_as_yaml_reads_it(tmp_path: Path, written: str) -> None:
    assert loaded(tmp_path, SMALL + f"engine: {{preemption: {written}}}").engine.preemption == "off"


@pytest.mark.parametrize("setting", ["exact", "semantic"])
@pytest.mark.parametrize("written", ["on", "off", "'on'", "'off'"])
def test_a_route_can_turn_its_cache_on_and_off_as_yaml_reads_it(tmp_path: Path, setting: str, written: str) -> None:
    cache = f"{{exact: on, {setting}: {written}}}" if setting == "semantic" else f"{{exact: {written}}}"
    text = SMALL + f"routes: [{{alias: r, chain: [m], cache: {cache}}}]\nembedder: {{}}"
    assert getattr(loaded(tmp_path, text).routes[0].cache, setting) == written.strip("'")


def test_a_score_lies_beside_the_configuration(tmp_path: Path) -> None:
    score = loaded(tmp_path, SMALL + "cache: {score: scores/mine.json}").cache.score
    assert score == str(tmp_path / "scores/mine.json")


def test_a_step_may_hold_just_one_token_of_each_sequence(tmp_path: Path) -> None:
    engine = loaded(tmp_path, SMALL + "engine: {max_sequences: 32, max_batched_tokens: 32}").engine
    assert (engine.max_sequences, engine.max_batched_tokens) == (32, 32)


@pytest.mark.parametrize("setting", ["threads", "max_model_len", "kv_memory_bytes", "chunk_slowdown", "prefix_ttl_s"])
def test_a_limit_of_the_engine_can_be_left_open(tmp_path: Path, setting: str) -> None:
    assert getattr(loaded(tmp_path, SMALL + f"engine: {{{setting}: null}}").engine, setting) is None


def test_nothing_changes_after_the_start(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALL)
    with pytest.raises(ValueError, match="frozen"):
        config.server.workers = 2


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_loads(path: Path) -> None:
    assert load(path, {}).models


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_fits_the_schema(path: Path) -> None:
    # JSON has no dates: they are strings there.
    jsonschema.validate(json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), default=str)), SCHEMA)


def test_the_local_file_serves_one_model_under_a_default_alias() -> None:
    config = load(ROOT / "configs/local.yaml", {})
    assert list(config.engine_models) == ["smollm2-135m-instruct"]
    assert [(route.alias, route.chain) for route in config.routes] == [("default", ["smollm2-135m-instruct"])]


def test_the_schema_file_is_the_one_that_the_code_gives() -> None:
    assert Config.model_json_schema() == SCHEMA, "stale: make schema"


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="wrkers"):
        jsonschema.validate({**yaml.safe_load(SMALL), "server": {"wrkers": 1}}, SCHEMA)


# What the declarations promise


@pytest.mark.parametrize("section", dict.fromkeys(sections()))
def test_every_section_is_strict_frozen_and_described(section: type[BaseModel]) -> None:
    config = section.model_config
    assert (config.get("extra"), config.get("frozen"), config.get("strict")) == ("forbid", True, True)
    assert section.__doc__


def names_a_secret(setting: str) -> bool:
    """Whether the value of ``setting`` would be a credential itself, and not the name of what holds one."""
    return not setting.endswith("_env") and bool(
        re.search(r"secret|passw|credential|(^|_)(key|keys|token|pwd|auth|bearer)$|(api|access|private)_?key", setting)
    )


@pytest.mark.parametrize(
    "setting", ["api_key", "api_keys", "key", "secret", "client_secret", "redis_password", "token", "auth_token"]
)
def test_a_credential_is_known_by_its_name(setting: str) -> None:
    assert names_a_secret(setting)
    assert not names_a_secret(f"{setting}_env")


def test_no_setting_holds_a_secret() -> None:
    # A section cannot be one: what it holds is looked at by itself.
    names = [
        name
        for section in sections()
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    assert "max_tokens" in names
    assert [name for name in names if names_a_secret(name)] == []


# Where the file is


@pytest.mark.parametrize("environ", [{}, {"GENKAN_CONFIG": ""}], ids=["unset", "empty"])
def test_the_default_file_lies_beside_the_service(environ: dict[str, str]) -> None:
    assert config_path(environ, Path("/somewhere")) == Path("/somewhere/configs/local.yaml")


def test_a_variable_names_another_file() -> None:
    assert config_path({"GENKAN_CONFIG": "other.yaml"}, Path("/somewhere")) == Path("other.yaml")


# What is wrong with the file


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.yaml: No such file"):
        load(tmp_path / "gone.yaml", {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "text",
    [
        "server: [",
        "server: {\n",
        "a: b: c",
        "\tserver: 1",
        "--- {}\n--- {}",
        "x: !!python/object/apply:os.getcwd []",
        "? [a, b]\n: 1",
        "released: 2024-02-30",
        "n: " + "9" * 5000,
        "a: &a [*a]",
    ],
    ids=[
        "open list", "open mapping", "two colons", "tab", "two documents", "python object", "a list as a key",
        "no such day", "a number too long", "a list in itself",
    ],
)  # fmt: skip
def test_what_is_no_yaml_names_the_file(tmp_path: Path, text: str) -> None:
    assert re.search(r"genkan\.yaml is not valid YAML: .", str(refusal(tmp_path, text)))


def test_bytes_that_are_no_utf8_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml is not valid YAML: 'utf-8' codec"):
        load(path, {})


@pytest.mark.parametrize("text", ["", "[]", "text", "1", "null", "# only a comment"])
def test_a_file_without_a_mapping_is_told_the_keys_that_belong_there(tmp_path: Path, text: str) -> None:
    assert "must hold a mapping; its keys: server, redis, keys, upstreams, models" in str(refusal(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("server: {}\nmodels: []\nserver: {}\n", "server", 3),
        ("server:\n  workers: 1\n  workers: 1\n", "server.workers", 3),
        ("models:\n  - name: a\n  - name: b\n    name: c\n", "models[1].name", 4),
        ("models:\n  - defaults: {top_p: 1, top_p: 1}\n", "models[0].defaults.top_p", 2),
        ('"server": {}\nserver: {}\n', "server", 2),
    ],
)
def test_refuses_a_duplicate_key_and_names_it(tmp_path: Path, text: str, path: str, line: int) -> None:
    error = refusal(tmp_path, text)
    assert (error.path, str(error)) == (path, f"{path}: duplicate key in line {line}")


# What is wrong with a setting


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        # unknown keys
        (
            "srever: {}",
            "srever",
            "unknown key; allowed: server, redis, keys, upstreams, models, routes, cache, limits, tenants, prices, "
            "ledger, engine, embedder, telemetry",
        ),
        ("server: {wrkers: 1}", "server.wrkers", "unknown key; allowed: workers, open_to"),
        ("engine: {profil: fast}", "engine.profil", "unknown key; allowed: model, profile"),
        ("engine: {prefill_chunk: 256}", "engine.prefill_chunk", "unknown key"),
        ("upstreams: [{name: e, kind: engine, x: 1}]", "upstreams[0].x", "allowed: name, timeouts, breaker, kind"),
        (
            "upstreams: [{name: e, kind: engine, timeouts: {x: 1}}]",
            "upstreams[0].timeouts.x",
            "allowed: connect_s, first_token_s, between_tokens_s, total_s",
        ),
        (
            "models: [{name: m, upstream: e, defaults: {x: 1}}]",
            "models[0].defaults.x",
            "allowed: max_tokens, temperature, top_p",
        ),
        # missing keys
        ("upstreams: [{name: e}]", "upstreams[0].kind", "field required: 'engine', 'openai', 'vllm' or 'sglang'"),
        ("routes: [{alias: a}]", "routes[0].chain", "field required"),
        # types, never coerced
        ("server: {workers: '2'}", "server.workers", "valid integer; given: '2'"),
        ("server: {workers: true}", "server.workers", "valid integer; given: True"),
        ("server: {workers: 1.0}", "server.workers", "valid integer; given: 1.0"),
        ("server: {body_timeout_s: true}", "server.body_timeout_s", "valid number; given: True"),
        ("server: {body_timeout_s: '3'}", "server.body_timeout_s", "valid number; given: '3'"),
        ("server: []", "server", "given: []"),
        ("upstreams: {name: e}", "upstreams", "valid list"),
        ("upstreams: [e]", "upstreams[0]", "given: 'e'"),
        ("models: [{name: 1, upstream: e}]", "models[0].name", "valid string; given: 1"),
        ("1: 2", "[1]", "keys should be strings"),
        # ranges
        ("server: {workers: 0}", "server.workers", "greater than or equal to 1; given: 0"),
        ("server: {workers: 65}", "server.workers", "less than or equal to 64; given: 65"),
        ("server: {max_body_bytes: 1023}", "server.max_body_bytes", "greater than or equal to 1024"),
        ("server: {body_timeout_s: 0}", "server.body_timeout_s", "greater than 0; given: 0"),
        ("server: {body_timeout_s: 86401}", "server.body_timeout_s", "less than or equal to 86400"),
        ("server: {body_timeout_s: .nan}", "server.body_timeout_s", "finite number; given: nan"),
        ("server: {body_timeout_s: .inf}", "server.body_timeout_s", "given: inf"),
        ("engine: {threads: 0}", "engine.threads", "greater than or equal to 1"),
        ("engine: {max_model_len: 15}", "engine.max_model_len", "greater than or equal to 16"),
        ("engine: {kv_memory_share: 0}", "engine.kv_memory_share", "greater than 0; given: 0"),
        ("engine: {kv_memory_share: 1.0}", "engine.kv_memory_share", "less than or equal to 0.95; given: 1.0"),
        ("engine: {kv_memory_bytes: 1000}", "engine.kv_memory_bytes", "greater than or equal to 1048576; given: 1000"),
        ("engine: {max_sequences: 0}", "engine.max_sequences", "greater than or equal to 1; given: 0"),
        ("engine: {chunk_slowdown: 1}", "engine.chunk_slowdown", "greater than 1; given: 1"),
        ("engine: {prefix_ttl_s: 0}", "engine.prefix_ttl_s", "greater than or equal to 1; given: 0"),
        ("engine: {pin_share: 0.91}", "engine.pin_share", "less than or equal to 0.9; given: 0.91"),
        ("engine: {max_unread_tokens: 15}", "engine.max_unread_tokens", "greater than or equal to 16; given: 15"),
        # what does not fit together
        (
            "engine: {max_sequences: 600}",
            "engine.max_batched_tokens",
            "must be at least max_sequences, 600, as each running sequence takes a token of a step; given: 512",
        ),
        (
            "engine: {max_sequences: 33, max_batched_tokens: 32}",
            "engine.max_batched_tokens",
            "must be at least max_sequences, 33",
        ),
        (
            "models: [{name: m, upstream: e, defaults: {temperature: 2.1}}]",
            "models[0].defaults.temperature",
            "less than or equal to 2; given: 2.1",
        ),
        (
            "models: [{name: m, upstream: e, defaults: {top_p: 0}}]",
            "models[0].defaults.top_p",
            "greater than 0; given: 0",
        ),
        ("upstreams: []", "upstreams", "at least 1 item"),
        ("routes: [{alias: a, chain: []}]", "routes[0].chain", "at least 1 item"),
        # choices and patterns
        ("server: {open_to: all}", "server.open_to", "'loopback' or 'any'; given: 'all'"),
        ("engine: {profile: half}", "engine.profile", "'fast' or 'exact'; given: 'half'"),
        ("engine: {kernels: cuda}", "engine.kernels", "'auto', 'c', 'torch' or 'triton'; given: 'cuda'"),
        ("engine: {block_size: 24}", "engine.block_size", "16, 32, 64 or 128; given: 24"),
        ("engine: {preemption: spill}", "engine.preemption", "'recompute', 'swap' or 'off'; given: 'spill'"),
        (
            "upstreams: [{name: e, kind: tgi}]",
            "upstreams[0].kind",
            "must be 'engine', 'openai', 'vllm' or 'sglang'; given: 'tgi'",
        ),
        ("models: [{name: 'a b', upstream: e}]", "models[0].name", "match pattern"),
        ("models: [{name: '', upstream: e}]", "models[0].name", "match pattern"),
        ("models: [{name: m, upstream: e, released: soon}]", "models[0].released", "given: 'soon'"),
        # names across sections
        ("models: [{name: m, upstream: x}]", "models[0].upstream", "'x' is not defined; allowed: e"),
        ("routes: [{alias: a, chain: [x]}]", "routes[0].chain[0]", "'x' is not defined; allowed: m"),
        (
            "models: [{name: m, upstream: e}, {name: m, upstream: e}]",
            "models[1].name",
            "the name 'm' is already taken",
        ),
        ("routes: [{alias: m, chain: [m]}]", "routes[0].alias", "the name 'm' is already taken"),
        (
            "routes: [{alias: a, chain: [m]}, {alias: a, chain: [m]}]",
            "routes[1].alias",
            "the name 'a' is already taken",
        ),
        (
            "upstreams: [{name: e, kind: engine}, {name: e, kind: engine}]",
            "upstreams[1].name",
            "the name 'e' is already taken",
        ),
        (
            "upstreams: [{name: e, kind: engine}, {name: f, kind: engine}]",
            "upstreams",
            "at most one may be of kind engine; given: e, f",
        ),
        (
            "routes: [{alias: a, chain: [m], cache: {semantic: 'on'}}]",
            "routes[0].cache.semantic",
            "'on' needs an embedder, and there is no such section",
        ),
        (
            "{routes: [{alias: a, chain: [m], cache: {semantic: shadow, exact: 'off'}}], embedder: {}}",
            "routes[0].cache.semantic",
            "'shadow' needs stored answers; exact is 'off'",
        ),
        (
            "{routes: [{alias: a, chain: [m], cache: {semantic: 'on', verified: true}}], embedder: {}}",
            "routes[0].cache.verified",
            "needs somebody to judge: cache.judge",
        ),
        (
            "{routes: [{alias: a, chain: [m], cache: {semantic: 'on'}}], embedder: {model: /models/mine}}",
            "routes[0].cache.semantic",
            "for '/models/mine' cache.score must name one",
        ),
        ("routes: [{alias: a, chain: [m], cache: {verified: true}}]", "routes[0].cache.verified", "goes with semantic"),
        ("routes: [{alias: a, chain: [m], cache: {exact: maybe}}]", "routes[0].cache.exact", "'auto', 'on' or 'off'"),
        ("cache: {judge: {model: x}}", "cache.judge.model", "'x' is not defined; allowed: m"),
        ("cache: {judge: {model: m}}", "cache.judge.model", "'m' is the engine's, and too small to judge"),
        ("cache: {ttl_s: 0}", "cache.ttl_s", "greater than 0"),
        ("embedder: {name: m}", "embedder.name", "the name 'm' is already taken"),
        ("embedder: {model: 'upstream:e/x'}", "embedder.model", "'e' is not defined"),
        ("limits: {models: {multilingual-e5-small: {}}}", "limits.models.multilingual-e5-small", "allowed: m"),
    ],
)
def test_a_wrong_setting_is_named_by_its_path_with_what_is_allowed(
    tmp_path: Path, text: str, path: str, says: str
) -> None:
    settings = {**yaml.safe_load(SMALL), **yaml.safe_load(text)}
    error = refusal(tmp_path, yaml.safe_dump(settings, sort_keys=False))
    assert error.path == path
    assert str(error).startswith(f"{path}: ")
    assert says in str(error)


@pytest.mark.parametrize("section", ["upstreams", "models"])
def test_a_required_section_must_be_there(tmp_path: Path, section: str) -> None:
    text = "\n".join(line for line in SMALL.splitlines() if not line.startswith(section))
    assert str(refusal(tmp_path, text)) == f"{section}: field required"


# Overrides


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("GENKAN__SERVER__WORKERS", "3", lambda config: config.server.workers == 3),
        ("GENKAN__SERVER", "{workers: 4}", lambda config: config.server.workers == 4),
        ("GENKAN__server__Workers", "5", lambda config: config.server.workers == 5),
        ("GENKAN__SERVER__OPEN_TO", "any", lambda config: config.server.open_to == "any"),
        ("GENKAN__ENGINE__THREADS", "", lambda config: config.engine.threads is None),
        ("GENKAN__MODELS__0__OWNED_BY", "us", lambda config: config.models[0].owned_by == "us"),
        ("GENKAN__MODELS__0__RELEASED", "2020-02-29", lambda config: config.models[0].released == date(2020, 2, 29)),
        ("GENKAN__MODELS__0__DEFAULTS__TOP_P", "0.5", lambda config: config.models[0].defaults.top_p == 0.5),
        ("GENKAN__ROUTES", "[{alias: a, chain: [m]}]", lambda config: config.routes[0].alias == "a"),
        ("GENKAN__MODELS__0", "{name: n, upstream: e}", lambda config: config.models[0].name == "n"),
        ("GENKAN_CONFIG", "x", lambda config: config.server.workers == 2),
        ("genkan__server__workers", "9", lambda config: config.server.workers == 2),
    ],
)
def test_a_variable_overrides_the_file(tmp_path: Path, variable: str, text: str, read: Any) -> None:
    assert read(loaded(tmp_path, SMALL + "server: {workers: 2}\nengine: {threads: 1}", {variable: text}))


def test_an_override_of_one_setting_keeps_its_neighbours(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALL + "server: {workers: 2, open_to: any}", {"GENKAN__SERVER__WORKERS": "3"})
    assert (config.server.workers, config.server.open_to) == (3, "any")


@pytest.mark.parametrize("section", ["", "server:"], ids=["absent", "null"])
def test_an_override_may_open_a_section(tmp_path: Path, section: str) -> None:
    assert loaded(tmp_path, SMALL + section, {"GENKAN__SERVER__WORKERS": "3"}).server.workers == 3


@pytest.mark.parametrize(
    ("variable", "text", "path", "says"),
    [
        ("GENKAN__SERVER__WORKERS", "many", "server.workers", "valid integer; given: 'many'"),
        ("GENKAN__SERVER__WRKERS", "1", "server.wrkers", "unknown key; allowed: workers"),
        ("GENKAN__SRV__WORKERS", "1", "srv", "unknown key; allowed: server"),
        ("GENKAN__MODELS__0__UPSTREAM", "x", "models[0].upstream", "'x' is not defined; allowed: e"),
        ("GENKAN__MODELS__1__NAME", "x", "GENKAN__MODELS__1__NAME", "'1' must be an index from 0 to 0"),
        ("GENKAN__MODELS__-1", "x", "GENKAN__MODELS__-1", "'-1' must be an index from 0 to 0"),
        ("GENKAN__MODELS__M__NAME", "x", "GENKAN__MODELS__M__NAME", "'m' must be an index from 0 to 0"),
        ("GENKAN__ROUTES__0", "x", "GENKAN__ROUTES__0", "'0' names an entry of an empty list"),
        ("GENKAN__", "1", "GENKAN__", "names no setting"),
        ("GENKAN__SERVER__", "1", "GENKAN__SERVER__", "names no setting"),
        ("GENKAN_SERVER__WORKERS", "1", "GENKAN_SERVER__WORKERS", "an override begins with GENKAN__"),
        ("GENKAN__MODELS__٠__NAME", "x", "GENKAN__MODELS__٠__NAME", "'٠' must be an index from 0 to 0"),
        ("GENKAN____WORKERS", "1", "GENKAN____WORKERS", "there are no settings below ''"),
        ("GENKAN__SERVER__WORKERS__X", "1", "GENKAN__SERVER__WORKERS__X", "names no setting"),
        ("GENKAN__SERVER__WORKERS__X__Y", "1", "GENKAN__SERVER__WORKERS__X__Y", "there are no settings below 'x'"),
        ("GENKAN__SERVER", "{", "GENKAN__SERVER", "its value is not valid YAML"),
        ("GENKAN__MODELS__0__RELEASED", "2024-02-30", "GENKAN__MODELS__0__RELEASED", "its value is not valid YAML"),
        ("GENKAN__SERVER", "{a: 1, a: 2}", "GENKAN__SERVER.a", "duplicate key in line 1"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, variable: str, text: str, path: str, says: str) -> None:
    error = refusal(tmp_path, SMALL + "server: {workers: 2}\nroutes: []", {variable: text})
    assert error.path == path
    assert str(error).startswith(f"{path}: ")
    assert says in str(error)
