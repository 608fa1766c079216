"""Whether a tool may, must or must not be called."""

from typing import Any

import pytest
from tool_rigs import tools

from genkan.errors import InvalidRequest
from genkan.serving.tools.choice import ToolChoice, read_choice

TOOLS = tools()
NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize(
    ("raw", "choice"),
    [
        ({}, ToolChoice("auto", TOOLS, several=True)),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolChoice("auto", TOOLS, several=False)),
        ({"tool_choice": "required"}, ToolChoice("required", TOOLS, several=True)),
        ({"tool_choice": "none"}, ToolChoice("none", (), several=True)),
        ({"tool_choice": NAMED, "parallel_tool_calls": True}, ToolChoice("named", TOOLS[1:], several=False)),
    ],
)
def test_reads_each_choice(raw: dict[str, Any], choice: ToolChoice) -> None:
    assert read_choice(raw, TOOLS) == choice


@pytest.mark.parametrize("raw", [{}, {"tool_choice": "none"}, {"tool_choice": "auto", "parallel_tool_calls": True}])
def test_without_tools_none_is_called(raw: dict[str, Any]) -> None:
    assert read_choice(raw, ()) == ToolChoice("none", (), several=False)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice.function.name"),
        ({"tool_choice": {**NAMED, "name": "get_time"}}, "tool_choice.name"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)
def test_what_is_wrong_is_named(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_choice(raw, TOOLS)
    assert caught.value.param == param


@pytest.mark.parametrize(("choice", "param"), [("required", "tool_choice"), (NAMED, "tool_choice.function.name")])
def test_a_call_cannot_be_asked_for_without_tools(choice: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_choice({"tool_choice": choice}, ())
    assert caught.value.param == param
