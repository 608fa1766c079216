"""Whether the model may, must or must not call a tool."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from genkan.errors import InvalidRequest
from genkan.serving.tools.definitions import Tool
from genkan.wire.fields import Fields, wrong_type

ChoiceMode = Literal["none", "auto", "required", "named"]

_MODES: Final[dict[str, ChoiceMode]] = {"none": "none", "auto": "auto", "required": "required"}
_NAMED_KEYS: Final = frozenset({"type", "function"})


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """``tools`` are those that may be called: all, none, or the one that is named. ``several``: in one answer."""

    mode: ChoiceMode
    tools: tuple[Tool, ...]
    several: bool


def read_choice(raw: dict[str, Any], tools: tuple[Tool, ...]) -> ToolChoice:
    """What a body asks for; InvalidRequest names what is wrong, such as a tool that must be called and is not offered.

    A named tool is called once, as OpenAI does it.
    """
    several = Fields(raw).boolean("parallel_tool_calls") is not False
    given = raw.get("tool_choice")
    if given is None:
        given = "auto" if tools else "none"
    if type(given) is dict:
        return ToolChoice("named", (_named(given, tools),), several=False)
    if type(given) is not str:
        raise wrong_type("tool_choice", "a string or an object", given)
    mode = _MODES.get(given)
    if mode is None:
        raise InvalidRequest(
            f"'tool_choice' must be none, auto, required or a named function; given: '{given[:100]}'.",
            param="tool_choice",
        )
    if not tools:
        if mode == "required":
            raise InvalidRequest("'tool_choice' is 'required', but 'tools' are not given.", param="tool_choice")
        return ToolChoice("none", (), several=False)
    return ToolChoice(mode, () if mode == "none" else tools, several)


def _named(given: dict[str, Any], tools: tuple[Tool, ...]) -> Tool:
    fields = Fields(given, "tool_choice")
    fields.require("type")
    fields.choice("type", ("function",))
    fields.only(_NAMED_KEYS)
    fields.require("function")
    function = fields.object("function")
    assert function is not None  # required above
    function.only(frozenset({"name"}))
    function.require("name")
    name = function.string("name")
    for tool in tools:
        if tool.name == name:
            return tool
    raise InvalidRequest(
        f"'tool_choice.function.name' must be one of 'tools'; given: '{(name or '')[:100]}'.",
        param="tool_choice.function.name",
    )
