"""The configuration file: strict, typed YAML, read once at start.

Every setting is declared once, here or in the part that owns it; `configs/schema.json` and the README's table are
made from these declarations. Any setting can be overridden by an environment variable, ``GENKAN__`` and the path
joined by two underscores (``GENKAN__SERVER__MAX_BODY_BYTES=1048576``, ``GENKAN__UPSTREAMS__0__NAME=engine``), its
value read as YAML. A secret never stands in the file, only the name of the environment variable that holds it.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genkan.engine.config import EngineConfig
from genkan.errors import ConfigError

DEFAULT_PATH = Path("configs/local.yaml")
PATH_VARIABLE = "GENKAN_CONFIG"
OVERRIDE_PREFIX = "GENKAN__"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Section(BaseModel):
    """A group of settings: unknown keys are errors, values are not coerced, nothing changes after start."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ServerConfig(Section):
    """The HTTP face."""

    workers: int = Field(default=1, ge=1, le=64, description="Gateway processes.")
    open_to: Literal["loopback", "any"] = Field(
        default="loopback",
        description="Who may call while no API keys are configured: peers on this machine, or anyone who connects.",
    )
    max_body_bytes: int = Field(default=4 << 20, ge=1024, le=1 << 30, description="Largest request body.")
    body_timeout_s: Seconds = Field(default=30.0, description="Time a client has to send its body.")


class Timeouts(Section):
    """How long an upstream may take, phase by phase."""

    connect_s: Seconds = Field(default=2.0, description="Until connected.")
    first_token_s: Seconds = Field(default=120.0, description="From the request to the first token, queue included.")
    between_tokens_s: Seconds = Field(default=30.0, description="From one piece of a stream to the next.")
    total_s: Seconds = Field(default=600.0, description="For the whole answer.")


class UpstreamConfig(Section):
    """Something that answers requests."""

    name: Name
    kind: Literal["engine"] = Field(description="`engine` is genkan's own engine, in a process beside the gateway.")
    timeouts: Timeouts = Timeouts()


class ModelDefaults(Section):
    """What a request gets that does not say."""

    max_tokens: int = Field(default=512, ge=1, description="Answer length; less where the context window ends sooner.")
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)


class ModelConfig(Section):
    """A model that clients can name."""

    name: Name
    upstream: Name = Field(description="Name of the upstream that serves it.")
    owned_by: str = Field(default="genkan", description="Shown by the model lists.")
    released: date = Field(default=date(2025, 1, 1), strict=False, description="`created` in the model lists.")
    defaults: ModelDefaults = ModelDefaults()


class RouteConfig(Section):
    """A name that clients use and the models behind it."""

    alias: Name
    chain: list[Name] = Field(min_length=1, max_length=1, description="Names of models, in the order they are tried.")


class TelemetryConfig(Section):
    """Logs."""

    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="`auto` is text on a terminal and JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """Everything, checked also across sections."""

    server: ServerConfig = ServerConfig()
    upstreams: list[UpstreamConfig] = Field(min_length=1)
    models: list[ModelConfig] = Field(min_length=1)
    routes: list[RouteConfig] = []
    engine: EngineConfig = EngineConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    @property
    def engine_upstream(self) -> UpstreamConfig:
        """The upstream that is the engine."""
        return next(upstream for upstream in self.upstreams if upstream.kind == "engine")

    @property
    def engine_model(self) -> ModelConfig:
        """The model that the Engine process serves."""
        return next(model for model in self.models if model.upstream == self.engine_upstream.name)


def config_path(environ: Mapping[str, str] = os.environ, beside: Path = Path()) -> Path:
    """The file to read: ``$GENKAN_CONFIG``, else ``configs/local.yaml`` in the folder ``beside``."""
    named = environ.get(PATH_VARIABLE)
    return Path(named) if named else beside / DEFAULT_PATH


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The checked configuration in ``path`` with the overrides in ``environ``.

    Raises ConfigError with the YAML path of the setting that is wrong and what is allowed there.
    """
    settings = _read(path)
    for variable in sorted(name for name in environ if name.startswith("GENKAN_") and "__" in name):
        if not variable.startswith(OVERRIDE_PREFIX):
            raise ConfigError(variable, f"an override begins with {OVERRIDE_PREFIX}")
        _override(settings, variable, environ[variable])
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise _explained(error) from None
    _cross_check(config)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("", f"cannot read {path}: {error.strerror}") from None
    except _NOT_YAML as error:
        raise ConfigError("", f"{path} is not valid YAML: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError("", f"{path} must hold a mapping; its keys: {', '.join(Config.model_fields)}")
    return settings


#: What PyYAML raises; for a date such as 2024-02-30 and for bad UTF-8 it is a plain ValueError.
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def _parse(text: str, path: str = "") -> Any:
    _refuse_duplicates(yaml.compose(text, Loader=yaml.SafeLoader), path)
    return yaml.safe_load(text)


def _refuse_duplicates(node: yaml.Node | None, path: str) -> None:
    # YAML 1.2 forbids duplicate keys, and PyYAML keeps the last.
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            _refuse_duplicates(inner, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, inner in node.value:
            name = str(key.value)
            its_path = f"{path}.{name}" if path else name
            if name in seen:
                raise ConfigError(its_path, f"duplicate key in line {key.start_mark.line + 1}")
            seen.add(name)
            _refuse_duplicates(inner, its_path)


def _override(settings: dict[str, Any], variable: str, text: str) -> None:
    *parents, last = variable.removeprefix(OVERRIDE_PREFIX).lower().split("__")
    place: Any = settings
    for part in parents:
        place = _descend(place, part, variable)
    try:
        value = _parse(text, variable)
    except _NOT_YAML as error:
        raise ConfigError(variable, f"its value is not valid YAML: {error}") from None
    if isinstance(place, list):
        place[_index(place, last, variable)] = value
    elif isinstance(place, dict) and last:
        place[last] = value
    else:
        raise ConfigError(variable, "names no setting")


def _descend(place: Any, part: str, variable: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, variable)]
    if not isinstance(place, dict) or not part:
        raise ConfigError(variable, f"there are no settings below '{part}'")
    if place.get(part) is None:
        place[part] = {}
    return place[part]


def _index(place: list[Any], part: str, variable: str) -> int:
    if not (part.isascii() and part.isdecimal()) or int(part) >= len(place):
        allowed = f"must be an index from 0 to {len(place) - 1}" if place else "names an entry of an empty list"
        raise ConfigError(variable, f"'{part}' {allowed}")
    return int(part)


def _explained(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    problem = message[0].lower() + message[1:]
    if first["type"] == "extra_forbidden":
        problem = f"unknown key; allowed: {', '.join(_allowed_keys(first['loc'][:-1]))}"
    elif first["type"] != "missing":
        problem += f"; given: {first['input']!r}"
    return ConfigError(path, problem)


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in loc:
        if isinstance(part, str):
            section = next(_sections_in(section.model_fields[part].annotation))
    return list(section.model_fields)


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _sections_in(inner)


def _cross_check(config: Config) -> None:
    upstreams = _unique([(f"upstreams[{i}].name", u.name) for i, u in enumerate(config.upstreams)])
    models = _unique([(f"models[{i}].name", m.name) for i, m in enumerate(config.models)])
    _unique([(f"routes[{i}].alias", r.alias) for i, r in enumerate(config.routes)], taken=models)
    for index, model in enumerate(config.models):
        _known(f"models[{index}].upstream", model.upstream, upstreams)
    for index, route in enumerate(config.routes):
        for place, name in enumerate(route.chain):
            _known(f"routes[{index}].chain[{place}]", name, models)
    engines = [index for index, upstream in enumerate(config.upstreams) if upstream.kind == "engine"]
    if len(engines) != 1:
        raise ConfigError("upstreams", f"exactly one must be of kind engine; given: {len(engines)}")
    served = [m.name for m in config.models if m.upstream == config.upstreams[engines[0]].name]
    if len(served) != 1:
        raise ConfigError("models", f"exactly one must name the engine's upstream; given: {served}")


def _unique(named: list[tuple[str, str]], taken: frozenset[str] = frozenset()) -> frozenset[str]:
    seen = set(taken)
    for path, name in named:
        if name in seen:
            raise ConfigError(path, f"the name '{name}' is already taken")
        seen.add(name)
    return frozenset(name for _, name in named)


def _known(path: str, name: str, known: frozenset[str]) -> None:
    if name not in known:
        raise ConfigError(path, f"'{name}' is not defined; allowed: {', '.join(sorted(known))}")
