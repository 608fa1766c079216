"""Where a JSON value ends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.serving.tools.json_end import JsonEnd

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(_values, st.booleans(), st.integers(1, 7), st.sampled_from([",", "}", "]", " ,", "\n}"]))
def test_a_value_ends_where_json_says_however_it_is_cut(value: object, ascii_only: bool, step: int, rest: str) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only)
    text, end = written + rest, JsonEnd(written[0])
    found = None
    for begin in range(0, len(text), step):
        if (found := end.find(text, begin, min(begin + step, len(text)))) is not None:
            break
    assert found == len(written)


@pytest.mark.parametrize("text", ['"abc', '{"a": "}"', "[[1]", "12", '"\\"', "tru"])
def test_a_value_that_goes_on_has_no_end_yet(text: str) -> None:
    assert JsonEnd(text[0]).find(text, 0, len(text)) is None
