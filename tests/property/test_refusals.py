"""Other servers' errors: any bytes and headers mean something, and never tell our key."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.errors import UpstreamError
from genkan.upstream.refusals import refusal, refusal_in_answer, relayed
from genkan.wire.retry_after import LONGEST_S

quick = settings(max_examples=300, deadline=None)

KEY = "sk-secret-0123456789"
TEXTS = st.one_of(
    st.text(max_size=8),
    st.just(KEY),
    st.builds(lambda before, after: f"{'x' * before}{KEY}{after}", st.integers(0, 2010), st.text(max_size=3)),
    st.sampled_from(["insufficient_quota", "content_filter", "maximum context length", "rate_limit_error"]),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 1000), st.floats(allow_nan=False), TEXTS)
KEYS = st.sampled_from(["error", "message", "type", "code", "param", "status", "detail", KEY])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=6))
ERRORS = st.fixed_dictionaries({"error": st.dictionaries(KEYS, SCALARS, max_size=6)})
BODIES = st.one_of(st.binary(max_size=40), JSON.map(orjson.dumps), ERRORS.map(orjson.dumps))
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-key"]),
    st.one_of(TEXTS, st.integers().map(str), st.sampled_from(["Thu, 09 Oct 2025 08:53:30 GMT", "1e999", "-1"])),
)
STATUSES = st.one_of(st.integers(100, 999), st.sampled_from([400, 401, 402, 409, 413, 422, 429, 503]))


def says_nothing_of_the_key(error: UpstreamError) -> bool:
    """Not even its beginning, in anything that a client or a log could see."""
    return KEY[:9] not in f"{error} {error!r} {error.message} {error.type} {error.code} {error.param}"


@quick
@given(STATUSES, HEADERS, BODIES)
def test_any_answer_is_an_error_that_does_not_tell_our_key(status: int, headers: dict[str, str], body: bytes) -> None:
    error = refusal(status, headers, body, upstream="up", secrets=(KEY,), now_unix_s=1_760_000_000.0)
    assert isinstance(error, UpstreamError)
    assert says_nothing_of_the_key(error)
    assert 400 <= error.status < 600
    assert error.status not in (401, 403)
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= LONGEST_S


@quick
@given(JSON)
def test_any_error_in_an_answer_is_an_error_that_does_not_tell_our_key(value: Any) -> None:
    error = refusal_in_answer(value, upstream="up", secrets=(KEY,))
    assert says_nothing_of_the_key(error)
    assert error.status not in (401, 403)


@quick
@given(st.integers(100, 999), BODIES)
def test_any_answer_of_the_engine_is_relayed_or_is_not(status: int, body: bytes) -> None:
    error = relayed(status, body, None, upstream="engine")
    assert error is None or error.status == status
