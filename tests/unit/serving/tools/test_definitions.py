"""The tools that a request may offer."""

from typing import Any

import pytest
from tool_rigs import WEATHER, function

from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.tools.definitions import MAX_TOOLS, MAX_TOOLS_BYTES, read_tools


def refused(*given: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_tools({"tools": list(given)})
    return caught.value


@pytest.mark.parametrize("raw", [{}, {"tools": None}, {"tools": []}, {"functions": [], "function_call": "auto"}])
def test_a_request_may_have_none(raw: dict[str, Any]) -> None:
    assert read_tools(raw) == ()


def test_a_tool_has_a_schema_of_objects_and_goes_to_the_template_whole() -> None:
    (tool,) = read_tools({"tools": [function("get", {"properties": {}}, strict=True, description="Gets")]})
    assert (tool.name, tool.strict) == ("get", True)
    assert tool.for_template() == {
        "type": "function",
        "function": {"name": "get", "description": "Gets", "parameters": {"type": "object", "properties": {}}},
    }


def test_a_tool_without_parameters_takes_none() -> None:
    (tool,) = read_tools({"tools": [function("now")]})
    assert tool.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (5, "tools[0]"),
        ({}, "tools[0].type"),
        ({"type": "function"}, "tools[0].function"),
        ({"type": "function", "function": {}}, "tools[0].function.name"),
        (function("a b"), "tools[0].function.name"),
        (function("<tool_call>"), "tools[0].function.name"),
        (function('a", "x'), "tools[0].function.name"),
        (function("a" * 65), "tools[0].function.name"),
        (function(""), "tools[0].function.name"),
        (function("a", strict="yes"), "tools[0].function.strict"),
        (function("a", description=5), "tools[0].function.description"),
        (function("a", description="x" * 20_000), "tools[0].function.description"),
        (function("a", returns={}), "tools[0].function.returns"),
        (function("a", {"type": "string"}), "tools[0].function.parameters.type"),
        (function("a", {"description": "x" * 70_000}), "tools[0].function.parameters"),
        ({**function("a"), "cache": True}, "tools[0].cache"),
    ],
)
def test_what_is_wrong_is_named(tool: Any, param: str) -> None:
    assert refused(tool).param == param


def test_tools_of_another_type_are_refused_by_name() -> None:
    error = refused({"type": "custom", "custom": {"name": "a"}})
    assert isinstance(error, UnsupportedOption)
    assert "custom" in error.message


def test_names_are_unique() -> None:
    assert refused(function("a"), function("b"), function("a")).param == "tools[2].function.name"


def test_there_are_at_most_128() -> None:
    assert len(read_tools({"tools": [function(f"t{index}") for index in range(MAX_TOOLS)]})) == MAX_TOOLS
    assert refused(*(function(f"t{index}") for index in range(MAX_TOOLS + 1))).param == "tools"


def test_all_together_are_bounded() -> None:
    big = {"enum": ["x" * 30_000]}
    error = refused(*(function(f"t{index}", big) for index in range(5)))
    assert error.param == "tools"
    assert str(MAX_TOOLS_BYTES) in error.message


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"functions": [{"name": "a", "parameters": WEATHER}]}, "functions"),
        ({"function_call": {"name": "a"}}, "function_call"),
    ],
)
def test_the_older_way_is_refused_by_name(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        read_tools(raw)
    assert caught.value.param == param
