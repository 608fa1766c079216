"""Write docs/configuration.md from the JSON schema of the configuration. Run by `make docs`; `--print` shows it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from genkan.config import Config

PATH = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
INTRODUCTION: Final = """# Configuration

Written by `make docs` from the code's declarations; do not edit.

One strict YAML file, `configs/local.yaml` by default, another with `make serve CONFIG=…` or the variable
`GENKAN_CONFIG`. An unknown key, a wrong type or a value out of range stops the start with the YAML path and what is
allowed there. `configs/schema.json` is the JSON schema, from which editors complete. `genkan config [FILE]` prints a
configuration with every default in place, `genkan check [FILE]` also asks the upstreams.

Every setting can be overridden from the environment: `GENKAN__` and the path joined by two underscores, such as
`GENKAN__ENGINE__PROFILE=exact` or `GENKAN__MODELS__0__DEFAULTS__MAX_TOKENS=64`. Secrets never stand in the file, only
names of environment variables. Units end names: `timeout_s` is in seconds, `max_body_bytes` in bytes.
"""
Schema = dict[str, Any]
_BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class Reference:
    """The pages' sections, in the file's order, each class once."""

    def __init__(self, schema: Schema) -> None:
        self._definitions: dict[str, Schema] = schema["$defs"]
        self._schema = schema
        self._seen: set[str] = set()
        #: Sections at the top, which others may hold as well: `engine` is also a model's.
        self._top = {setting["$ref"]: name for name, setting in schema["properties"].items() if "$ref" in setting}

    def lines(self) -> Iterator[str]:
        """Markdown."""
        yield INTRODUCTION.rstrip("\n")
        for name, setting in self._schema["properties"].items():
            for definition in self._classes(setting):
                yield from self._section(name + ("[]" if setting.get("type") == "array" else ""), definition)

    def _section(self, path: str, name: str) -> Iterator[str]:
        definition = _object(self._definitions[name])
        if name in self._seen or "properties" not in definition:  # the latter: choices with a name
            return
        self._seen.add(name)
        kind = definition["properties"].get("kind")
        yield f"\n## `{path}`" + (f" of kind {self._type(kind)}" if kind else "")
        yield f"\n{' '.join(definition.get('description', '').split())}\n"
        yield "| setting | type | default | |"
        yield "|---|---|---|---|"
        required = set(definition.get("required", ()))
        for key, setting in definition["properties"].items():
            default = "required" if key in required else _default(setting)
            yield f"| `{key}` | {self._type(setting)} | {default} | {_cell(setting.get('description', ''))} |"
        for key, setting in definition["properties"].items():
            below = f"{path}.{key}" + ("[]" if setting.get("type") == "array" else "")
            for one in self._classes(setting):
                if f"#/$defs/{one}" not in self._top:
                    yield from self._section(below, one)

    def _classes(self, setting: Schema) -> Iterator[str]:
        """The sections that a setting is, may be, or has a list of."""
        if "$ref" in setting:
            yield setting["$ref"].rsplit("/", 1)[1]
        for variant in (*setting.get("anyOf", ()), *setting.get("oneOf", ())):
            yield from self._classes(variant)
        for inner in ("items", "additionalProperties"):
            if isinstance(setting.get(inner), dict):
                yield from self._classes(setting[inner])

    def _type(self, setting: Schema) -> str:
        if "$ref" in setting:
            return "section"
        if "enum" in setting or "const" in setting:
            return ", ".join(f"`{_plain(value)}`" for value in setting.get("enum", [setting.get("const")]))
        variants = [*setting.get("anyOf", ()), *setting.get("oneOf", ())]
        if variants:
            return " or ".join(dict.fromkeys(self._type(one) for one in variants))
        if setting.get("type") == "array":
            return f"list of {self._type(setting['items'])}"
        if isinstance(setting.get("additionalProperties"), dict):
            return f"by name: {self._type(setting['additionalProperties'])}"
        bounds = [f"{sign} {_plain(setting[key])}" for key, sign in _BOUNDS.items() if key in setting]
        return " ".join([str(setting.get("type", "any")), *bounds])


def _object(definition: Schema) -> Schema:
    """What may also be a file's path is described by the other choice."""
    choices = definition.get("anyOf", ())
    return next((choice for choice in choices if "properties" in choice), definition)


def _default(setting: Schema) -> str:
    """As YAML would have it; nothing for what is a section of its own."""
    if "default" not in setting or isinstance(setting["default"], dict):
        return ""
    return f"`{_plain(setting['default'])}`"


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:_}" if type(value) is int and value >= 10_000 else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    text = "\n".join(Reference(Config.model_json_schema()).lines()) + "\n"
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(text)
    else:
        PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
