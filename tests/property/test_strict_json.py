"""Whatever is accepted can be written again; whatever is not is refused in one way."""

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.errors import InvalidRequest
from genkan.wire.strict_json import MAX_DEPTH, parse_object

quick = settings(max_examples=400, deadline=None)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=5)
#: What to put into JSON so that it becomes interesting.
POISON = st.one_of(
    st.sampled_from(
        [
            b'"', b"\\", rb"\ud800", rb"\ude00", rb"\u0061", rb"\n", b"{", b"}", b"[", b"]", b",", b":", b"NaN",
            b"1e999", b"-Infinity", b"-", b"0", b".", b"E", b"9" * 20, b"18446744073709551616", b"-9223372036854775809",
            b"1" * 5000, b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\x00", b"\x1f", b"\xc2\xa0", b"null",
            b'"a":1,"a":2,', b"[" * 99,
        ]
    ),
    st.binary(max_size=2),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Valid JSON with a few pieces put in, taken out or doubled."""
    body = json.dumps(draw(OBJECTS), ensure_ascii=draw(st.booleans())).encode("utf-8")
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 8)))
        middle = draw(st.one_of(POISON, st.just(b""), st.just(body[start:end] * 2)))
        body = body[:start] + middle + body[end:]
    return body


def accepted(body: bytes) -> dict[str, Any] | None:
    """What ``body`` is read as, or None if it is refused; any other exception than InvalidRequest fails the test."""
    try:
        return parse_object(body)
    except InvalidRequest:
        return None


def same(one: object, other: object) -> bool:
    """Equal with equal types, order of keys and signs of zero, none of which ``==`` looks at."""
    return repr(one) == repr(other)


@quick
@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_every_object_that_json_can_hold_is_read_as_it_is(value: dict[str, Any], ascii_: bool, indent: int) -> None:
    assert same(parse_object(json.dumps(value, ensure_ascii=ascii_, indent=indent).encode()), value)


@quick
@given(st.one_of(mutated(), st.binary(max_size=60)))
def test_what_is_accepted_can_be_written_again_and_reads_the_same(body: bytes) -> None:
    value = accepted(body)
    if value is not None:
        assert same(parse_object(orjson.dumps(value)), value)


@quick
@given(mutated())
def test_what_is_accepted_means_the_same_to_other_parsers(body: bytes) -> None:
    value = accepted(body)
    if value is not None:
        assert same(json.loads(body), value)
        assert orjson.loads(body) == value


@quick
@given(mutated())
def test_what_is_refused_has_a_reason(body: bytes) -> None:
    assert accepted(body) is not None or has_a_flaw(body)


def has_a_flaw(body: bytes) -> bool:
    """Found with parsers that are not the one under test."""
    seen_twice = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal seen_twice
        seen_twice |= len({key for key, _ in items}) < len(items)
        return dict(items)

    try:
        orjson.loads(body)
        value = json.loads(body, object_pairs_hook=pairs)
    except ValueError:
        return True
    return seen_twice or not isinstance(value, dict) or not fits(value, MAX_DEPTH)


def fits(value: Any, depth: int) -> bool:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(fits(one, depth - 1) for one in inner)
    if isinstance(value, float):
        return abs(value) != float("inf")
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@quick
@given(st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3), st.integers(0, 2**MAX_DEPTH), VALUES)
def test_depth_is_counted_over_objects_and_lists_alike(depth: int, is_list: int, beside: Any) -> None:
    value: Any = {}
    for level in range(depth - 2):
        value = [value] if is_list >> level & 1 else {"a": value}
    assert (accepted(json.dumps({"deep": value, "beside": beside}).encode()) is not None) == (depth <= MAX_DEPTH)
