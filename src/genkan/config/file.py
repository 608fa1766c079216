"""Reads the configuration file: YAML, overrides from the environment, and errors that name the setting.

Any setting can be overridden by an environment variable, ``GENKAN__`` and the path joined by two underscores
(``GENKAN__SERVER__MAX_BODY_BYTES=1048576``, ``GENKAN__UPSTREAMS__0__NAME=engine``), its value read as YAML. A secret
never stands in the file, only the name of the environment variable that holds it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from genkan.config.cross_check import check_prices, cross_check
from genkan.config.limits import PricesConfig
from genkan.config.sections import Config
from genkan.errors import ConfigError

DEFAULT_PATH = Path("configs/local.yaml")
PATH_VARIABLE = "GENKAN_CONFIG"
OVERRIDE_PREFIX = "GENKAN__"
_KINDS = "'engine', 'openai', 'vllm' or 'sglang'"
_SECRETIVE = frozenset({"headers", "base_url", "api_key_env", "url", "url_env", "secret_env"})


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
    has_list = isinstance(settings.get("prices"), str)
    if has_list:
        settings["prices"] = _read(path.parent / settings["prices"], PricesConfig)
    _find_score(settings, path.parent)
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise _explained(error) from None
    cross_check(config)
    if not has_list:  # a list in a file of its own may be for several configurations
        check_prices(config)
    return config


def _find_score(settings: dict[str, Any], folder: Path) -> None:
    """Take the path of the score as beside the configuration, whatever folder a worker starts in."""
    cache = settings.get("cache")
    if isinstance(cache, dict) and isinstance(cache.get("score"), str) and cache["score"]:
        cache["score"] = str((folder / cache["score"]).resolve())


def _read(path: Path, section: type[BaseModel] = Config) -> dict[str, Any]:
    try:
        settings = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("", f"cannot read {path}: {error.strerror}") from None
    except _NOT_YAML as error:
        raise ConfigError("", f"{path} is not valid YAML: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError("", f"{path} must hold a mapping; its keys: {', '.join(section.model_fields)}")
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
    loc = _without_kind(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    problem = message[0].lower() + message[1:]
    if first["type"] == "extra_forbidden":
        problem = f"unknown key; allowed: {', '.join(_allowed_keys(first['loc'][:-1]))}"
    elif first["type"].startswith("union_tag_"):
        loc += ("kind",)
        tag = first.get("ctx", {}).get("tag")
        problem = f"field required: {_KINDS}" if tag is None else f"must be {_KINDS}; given: {tag!r}"
    elif first["type"] != "missing" and not _may_hold_a_secret(loc, first["input"]):
        problem += f"; given: {first['input']!r}"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return ConfigError(path.removeprefix("."), problem)


def _may_hold_a_secret(loc: tuple[int | str, ...], given: object) -> bool:
    """A header may be one, a URL may have one in it, and some write the key where the name of its variable belongs."""
    return not _SECRETIVE.isdisjoint(loc) or (isinstance(given, dict | list) and bool(given))


def _without_kind(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """pydantic puts the kind of an upstream into the path of what is wrong with it; the file has it elsewhere."""
    return loc[:2] + loc[3:] if loc[0] == "upstreams" and len(loc) > 2 else loc


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    sections: list[type[BaseModel]] = [Config]
    for part in loc:
        if isinstance(part, int):
            continue
        if (owner := next((s for s in sections if part in s.model_fields), None)) is not None:
            sections = list(_sections_in(owner.model_fields[part].annotation))
        elif kinds := [s for s in sections if "kind" in s.model_fields]:
            sections = [s for s in kinds if part in get_args(s.model_fields["kind"].annotation)]
        # else it is a name that the file gives, such as a model's below `limits.models`
    return list(sections[0].model_fields)


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_in(inner)
