"""Which bodies are JSON objects, and what a refusal says."""

import pytest

from genkan.errors import InvalidRequest
from genkan.wire.strict_json import MAX_DEPTH, parse_object, parse_value


def nested(depth: int) -> bytes:
    """An object that is ``depth`` levels deep, itself included."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_object(body)
    return caught.value


def test_keeps_values_and_the_order_of_keys() -> None:
    parsed = parse_object(' {"b": [1, 1.0, true, null], "a": {"日": "本"}}\r\n'.encode())
    assert repr(parsed) == "{'b': [1, 1.0, True, None], 'a': {'日': '本'}}"


@pytest.mark.parametrize("number", [-(2**63), 2**63, 2**64 - 1, 0, -1, 10**18, 10**18 - 1, 1 - 10**17])
def test_keeps_integers_of_64_bits(number: int) -> None:
    assert parse_object(b'{"n":%d}' % number) == {"n": number}


@pytest.mark.parametrize(
    "digits",
    [b"-9223372036854775809", b"18446744073709551616", b"1" + b"0" * 20, b"-1" + b"0" * 20, b"1" * 5000],
    ids=["below signed", "above unsigned", "a digit more", "a negative digit more", "more than Python reads"],
)
def test_refuses_integers_beyond_64_bits(digits: bytes) -> None:
    assert "an integer does not fit in 64 bits" in refusal(b'{"n":%b}' % digits).message


def test_joins_a_surrogate_pair_to_one_character() -> None:
    assert parse_object(rb'{"a":"\ud83d\ude00"}') == {"a": "😀"}


def test_an_escaped_backslash_before_u_is_no_surrogate() -> None:
    assert parse_object(rb'{"a":"\\ud83d"}') == {"a": r"\ud83d"}


@pytest.mark.parametrize(
    "text", [rb"\ud83d", rb"\ude00", rb"\uDE00\uD83D", rb"\ud83dx\ude00", rb"\uD83D\\ude00", rb"\uDBFF"]
)
@pytest.mark.parametrize("template", [b'{"a":"%b"}', b'{"%b":1}', b'{"a":[{"b":"%b"}]}'])
def test_refuses_a_lone_surrogate_anywhere(template: bytes, text: bytes) -> None:
    assert "a string holds a lone surrogate" in refusal(template % text).message


@pytest.mark.parametrize(
    "body",
    [b'{"a":1,"a":1}', rb'{"a":1,"\u0061":2}', b'{"b":[{"a":1,"c":0,"a":2}]}'],
    ids=["equal", "escaped", "inside"],
)
def test_refuses_a_duplicate_key_and_names_it(body: bytes) -> None:
    assert 'duplicate key "a"' in refusal(body).message


def test_names_no_more_than_the_beginning_of_a_long_duplicate_key() -> None:
    key = b"k" * 10_000
    assert len(refusal(b'{"%b":1,"%b":2}' % (key, key)).message) < 200


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_refuses_what_is_no_json_number_and_names_it(number: bytes) -> None:
    assert f"{number.decode()} is not a JSON number" in refusal(b'{"a":%b}' % number).message


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 400 + b".0"])
def test_refuses_a_number_that_would_become_infinite(number: bytes) -> None:
    assert "a number is too large" in refusal(b'{"a":%b}' % number).message


@pytest.mark.parametrize("beside", [b"", b',"b":[[],{}]'], ids=["alone", "with others beside"])
def test_reads_an_object_as_deep_as_allowed(beside: bytes) -> None:
    assert "a" in parse_object(nested(MAX_DEPTH)[:-1] + beside + b"}")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_refuses_deeper_nesting(depth: int) -> None:
    assert refusal(nested(depth)).message == f"The body is nested deeper than {MAX_DEPTH} levels."


def test_counts_depth_and_not_brackets() -> None:
    assert len(parse_object(b'{"a":[%b]}' % b",".join([b"[{}]"] * 500))["a"]) == 500


@pytest.mark.parametrize(
    ("body", "byte"),
    [(b'{"a":"\xff"}', 6), (b'{"a":"\xc0\xaf"}', 6), (b'{"a":"\xed\xa0\xbd"}', 6), (b"\xff\xfe{\x00}\x00", 0)],
    ids=["no such byte", "overlong", "encoded surrogate", "UTF-16"],
)
def test_refuses_invalid_utf8_and_names_the_byte(body: bytes, byte: int) -> None:
    assert refusal(body).message == f"The body is not valid UTF-8 (byte {byte})."


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b'{"a":1', b'{"a":1}}', b'{"a":1,}', b"{'a':1}", b"{a:1}", b'{"a":01}', b'{"a":+1}',
        b'{"a":.5}', b'{"a":1.}', b'{"a":tru}', b'{"a":"\n"}', rb'{"a":"\x41"}', rb'{"a":"\u12"}', b'{"a":1} // b',
        b'\xef\xbb\xbf{}', b'{"a":\xc2\xa01}', b"\x00{}", '{"a":１}'.encode(),
    ],
)  # fmt: skip
def test_refuses_what_rfc_8259_does_not_allow(body: bytes) -> None:
    assert refusal(body).message.startswith("The body is not valid JSON: ")


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true", b'[{"a":1}]'])
def test_refuses_json_that_is_no_object(body: bytes) -> None:
    assert refusal(body).message == "The body must be a JSON object."


@pytest.mark.parametrize("body", [b'{"a":1}', b' {"a":1}', b'{"a":1}\n', b'\t\r\n {"a":1} \t\r\n'])
def test_white_space_around_an_object_is_none_of_it(body: bytes) -> None:
    assert parse_object(body) == {"a": 1}


@pytest.mark.parametrize("body", [b'{"a":1}}', b'{"a":1}{"b":2}', b'{"a":1} {}', b'{"a":1}x', b' {"a":1} ]'])
def test_what_comes_after_an_object_is_refused_by_its_place(body: bytes) -> None:
    place = len(body) - len(body.partition(b"1}")[2].lstrip())
    assert refusal(body).message == f"The body is not valid JSON: Extra data at character {place}."


def test_says_where_the_json_ends() -> None:
    assert "at character 5" in refusal(b'{"a":').message


def test_a_refusal_is_a_400_that_names_no_field() -> None:
    error = refusal(b"")
    assert (error.status, error.code, error.param) == (400, "invalid_value", None)


@pytest.mark.parametrize("integer", ["12345678901234567890123", "-99999999999999999999", "1" + "0" * 5000])
def test_a_long_body_is_read_as_strictly(integer: str) -> None:
    many = ",".join(["7"] * 50_000)
    assert parse_value(f"[{many}]".encode()) == [7] * 50_000
    assert parse_value(f"[{many},{2**63}]".encode())[-1] == 2**63
    with pytest.raises(InvalidRequest, match="does not fit in 64 bits"):
        parse_value(f"[{many},{integer}]".encode())
    for wrong in ('{"a":1,"a":2}', "NaN", "1e999"):
        with pytest.raises(InvalidRequest):
            parse_value(f"[{many},{wrong}]".encode())
