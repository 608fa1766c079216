"""How single fields are read and refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from genkan.errors import InvalidRequest
from genkan.wire.fields import Fields, MissingField, WrongType, wrong_type

READERS: dict[str, Callable[[Fields], Any]] = {
    "a string": lambda fields: fields.string("x"),
    "a boolean": lambda fields: fields.boolean("x"),
    "an object": lambda fields: fields.object("x"),
    "a list": lambda fields: fields.list("x"),
    "an integer": lambda fields: fields.integer("x", low=0, high=9),
    "a number": lambda fields: fields.number("x", low=0, high=9),
}
VALUES: dict[str, list[Any]] = {
    "a string": ["", "1"],
    "a boolean": [True, False],
    "an object": [{}, {"a": 1}],
    "a list": [[], [1]],
    "an integer": [0, 1],
    "a number": [0.0, 1.0],
}
WRONG = [
    (expected, given, value)
    for expected in READERS
    for given, values in VALUES.items()
    for value in values
    if given != expected and (expected, given) != ("a number", "an integer")
]


@pytest.mark.parametrize("values", [{}, {"x": None}], ids=["absent", "null"])
@pytest.mark.parametrize("expected", READERS)
def test_absent_and_null_are_the_same(expected: str, values: dict[str, Any]) -> None:
    assert READERS[expected](Fields(values)) is None


@pytest.mark.parametrize(("expected", "given", "value"), WRONG)
def test_types_are_strict_and_a_refusal_says_what_was_expected_and_given(expected: str, given: str, value: Any) -> None:
    with pytest.raises(WrongType) as caught:
        READERS[expected](Fields({"x": value}, "a[0]"))
    assert caught.value.message == f"Invalid type for 'a[0].x': expected {expected}, but got {given} instead."
    assert (caught.value.param, caught.value.code) == ("a[0].x", "invalid_type")


@pytest.mark.parametrize(
    ("expected", "value"), [(expected, value) for expected, values in VALUES.items() for value in values]
)
def test_a_value_of_the_right_type_is_returned(expected: str, value: Any) -> None:
    if expected == "an object":
        assert isinstance(READERS[expected](Fields({"x": value})), Fields)
    else:
        read = READERS[expected](Fields({"x": value}))
        assert (read, type(read)) == (value, type(value))


def test_an_integer_is_a_number_and_becomes_a_float() -> None:
    assert repr(Fields({"x": 1}).number("x", low=0, high=2)) == "1.0"


@pytest.mark.parametrize("value", [-3, 4])
def test_refuses_an_integer_out_of_range_and_names_the_range(value: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"'x' must be an integer between -2 and 3; given: {value}\."):
        Fields({"x": value}).integer("x", low=-2, high=3)


@pytest.mark.parametrize("value", [-2, 3])
def test_the_ends_of_an_integer_range_are_allowed(value: int) -> None:
    assert Fields({"x": value}).integer("x", low=-2, high=3) == value


@pytest.mark.parametrize("value", [-0.1, 2.1, 10**18, math.nan, math.inf])
def test_refuses_a_number_out_of_range_and_names_the_range(value: float) -> None:
    with pytest.raises(InvalidRequest, match=r"'x' must be between 0 and 2; given: "):
        Fields({"x": value}).number("x", low=0, high=2)


@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_a_range_can_leave_out_its_lower_end(value: float) -> None:
    with pytest.raises(InvalidRequest, match="'x' must be greater than 0 and at most 1; given: "):
        Fields({"x": value}).number("x", low=0, high=1, above_low=True)


def test_refuses_a_string_that_is_too_long_and_does_not_repeat_it() -> None:
    with pytest.raises(InvalidRequest, match=r"^'x' must be at most 3 characters; given: 4\.$"):
        Fields({"x": "abcd"}).string("x", max_chars=3)


def test_a_string_may_be_as_long_as_allowed() -> None:
    assert Fields({"x": "日本語"}).string("x", max_chars=3) == "日本語"


def test_a_choice_outside_the_list_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"'x' must be one of a, b; given: 'c'\."):
        Fields({"x": "c"}).choice("x", ("a", "b"))


@pytest.mark.parametrize("values", [{}, {"x": None}], ids=["absent", "null"])
def test_a_required_field_must_be_there(values: dict[str, Any]) -> None:
    with pytest.raises(MissingField, match=r"Missing required parameter: 'a\.x'\.") as caught:
        Fields(values, "a").require("x")
    assert (caught.value.param, caught.value.code) == ("a.x", "missing_required_parameter")


@pytest.mark.parametrize("value", [0, False, "", [], {}])
def test_an_empty_required_field_is_there(value: Any) -> None:
    assert Fields({"x": value}).require("x") == value


def test_the_path_grows_with_every_object() -> None:
    inner = Fields({"a": {"b": {"c": 1}}}).object("a")
    assert inner is not None
    deeper = inner.object("b")
    assert deeper is not None
    assert deeper.path_of("c") == "a.b.c"


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'a\.z' is not known here; allowed: x, y\.") as caught:
        Fields({"x": 1, "z": 2}, "a").only(frozenset({"y", "x"}))
    assert caught.value.param == "a.z"


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: Fields({"k" * 9999: 1}).only(frozenset()),
        lambda: Fields({"x": "v" * 9999}).choice("x", ("a",)),
        lambda: Fields({"k" * 9999: 1}).boolean("k" * 9999),
    ],
    ids=["a key", "a value", "a wrong type"],
)
def test_what_the_client_sent_is_repeated_only_in_part(refuse: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse()
    assert max(len(caught.value.message), len(caught.value.param or "")) < 400


def test_a_value_that_json_cannot_hold_is_refused_too() -> None:
    assert "but got something else instead" in wrong_type("x", "a string", b"").message
