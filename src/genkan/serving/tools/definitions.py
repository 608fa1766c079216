"""The tools that a request offers.

OpenAI's older ``functions`` and ``function_call`` are refused by name: they say the same in other words, and a request
that uses both would have to be guessed at. So are tools that are no functions.

Source: OpenAI's API reference for chat completions.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.constraints import bounded_json
from genkan.wire.fields import Fields, wrong_type

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 128 << 10
MAX_DESCRIPTION_CHARS = 16 << 10

_TOOL_KEYS: Final = frozenset({"type", "function"})
_FUNCTION_KEYS: Final = frozenset({"name", "description", "parameters", "strict"})
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_PARAMETERS: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. ``parameters`` is a JSON schema of objects, ``schema`` the same as text."""

    name: str
    description: str
    parameters: dict[str, Any]
    schema: str
    strict: bool

    def for_template(self) -> dict[str, Any]:
        """As chat templates know tools: with each key that some template reads, in the order of training data."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def read_tools(raw: dict[str, Any]) -> tuple[Tool, ...]:
    """The tools of a request body, none where it has none.

    Raises InvalidRequest naming what is wrong: more than 128 tools, 128 KiB in all, equal names, no functions.
    """
    for older in ("functions", "function_call"):
        if raw.get(older) not in (None, [], "none", "auto"):
            newer = "tools" if older == "functions" else "tool_choice"
            raise UnsupportedOption(older, f"use '{newer}', which replaced it")
    given = Fields(raw).list("tools") or []
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(f"'tools' must have at most {MAX_TOOLS} entries; given: {len(given)}.", param="tools")
    tools: dict[str, Tool] = {}
    num_bytes = 0
    for index, value in enumerate(given):
        tool, size = _tool(value, f"tools[{index}]")
        num_bytes += size
        if num_bytes > MAX_TOOLS_BYTES:
            raise InvalidRequest(f"'tools' must be at most {MAX_TOOLS_BYTES} bytes in all.", param="tools")
        if tool.name in tools:
            path = f"tools[{index}].function.name"
            raise InvalidRequest(f"'{path}' must be unique; given twice: '{tool.name}'.", param=path)
        tools[tool.name] = tool
    return tuple(tools.values())


def _tool(value: Any, path: str) -> tuple[Tool, int]:
    if type(value) is not dict:
        raise wrong_type(path, "an object", value)
    fields = Fields(value, path)
    fields.require("type")
    if (kind := fields.string("type")) != "function":
        raise UnsupportedOption(f"{path}.type", f"only functions; given: '{(kind or '')[:100]}'")
    fields.only(_TOOL_KEYS)
    fields.require("function")
    function = fields.object("function")
    assert function is not None  # required above
    return _function(function, f"{path}.function")


def _function(fields: Fields, path: str) -> tuple[Tool, int]:
    """The tool, and how many bytes it takes."""
    fields.only(_FUNCTION_KEYS)
    fields.require("name")
    name = fields.string("name") or ""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{path}.name' must be 1 to 64 letters, digits, underscores and dashes; given: '{name[:100]}'.",
            param=f"{path}.name",
        )
    description = fields.string("description", max_chars=MAX_DESCRIPTION_CHARS) or ""
    fields.object("parameters")  # is one, if there
    parameters = {"type": "object", **(fields.raw("parameters") or _NO_PARAMETERS)}
    if parameters["type"] != "object":
        where = f"{path}.parameters.type"
        raise InvalidRequest(f"'{where}' must be 'object': arguments have names.", param=where)
    schema = bounded_json(parameters, f"{path}.parameters")
    strict = fields.boolean("strict") or False
    return Tool(name, description, parameters, schema, strict), len(name) + len(description) + len(schema)
