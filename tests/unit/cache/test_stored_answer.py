"""An answer as bytes, and back."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_answers import stored

from genkan.cache.stored_answer import StoredAnswer
from genkan.wire.usage import Usage

FIELDS: list[Any] = orjson.loads(stored().as_bytes())


@given(text=st.text(), reasoning=st.text(), is_chat=st.booleans(), cost=st.none() | st.integers(0, 10**12))
def test_what_is_written_is_read(text: str, reasoning: str, is_chat: bool, cost: int | None) -> None:
    answer = stored(
        text=text, reasoning=reasoning, is_chat=is_chat, cost_nano_usd=cost, fingerprint="fp", is_alias=True
    )
    assert StoredAnswer.read(answer.as_bytes()) == answer


def test_what_is_not_known_is_not_known_after() -> None:
    answer = stored(usage=None, fingerprint=None, cost_nano_usd=None)
    assert StoredAnswer.read(answer.as_bytes()) == answer


def test_times_may_be_whole() -> None:
    answer = StoredAnswer.read(stored(stored_s=5, expires_s=6).as_bytes())
    assert answer is not None
    assert (answer.stored_s, answer.expires_s) == (5.0, 6.0)


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b"[]", b"[1]", b"7", b'"x"', b"[2]", b"\xff", b'{"a":1}'])
def test_what_is_none_is_none(data: bytes) -> None:
    assert StoredAnswer.read(data) is None


@pytest.mark.parametrize("at", range(len(FIELDS)))
@pytest.mark.parametrize("odd", [[], {}, -1, "\x00", 1.5, [1], [1, 2, 3], ["a", 1, 1, 1], [1, 1, 5, 5]], ids=repr)
def test_a_field_of_another_kind_makes_it_none(at: int, odd: Any) -> None:
    fields = [*FIELDS[:at], odd, *FIELDS[at + 1 :]]
    fits = isinstance(FIELDS[at], str) and isinstance(odd, str) and len(FIELDS[at]) != 32
    fits = fits or (isinstance(FIELDS[at], float) and odd == 1.5) or (FIELDS[at] is None and at == 7 and odd == "\x00")
    fits = fits or (isinstance(FIELDS[at], dict) and isinstance(odd, dict))
    read = StoredAnswer.read(orjson.dumps(fields))
    assert (read is not None) == fits


def test_more_or_fewer_fields_make_it_none() -> None:
    assert StoredAnswer.read(orjson.dumps(FIELDS)) is not None
    assert StoredAnswer.read(orjson.dumps(FIELDS[:-1])) is None
    assert StoredAnswer.read(orjson.dumps([*FIELDS, None])) is None


def test_what_is_cut_short_empty_or_not_counted_is_not_stored() -> None:
    assert stored().may_be_stored
    assert not stored(finish_reason="length").may_be_stored
    assert not stored(text="").may_be_stored
    assert not stored(usage=None).may_be_stored
    assert stored(usage=Usage(0, 1)).may_be_stored
