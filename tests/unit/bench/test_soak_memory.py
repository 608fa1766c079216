"""The soak of memory: what it sends, and what it says of a process's size."""

from itertools import islice

import pytest

from genkan.bench.chat_traffic import check_refused, check_stream
from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.http_load import Call
from genkan.bench.soak_memory import EVERY, Growth, Shed, check_limited, check_unknown, mixed_calls, sampled


def test_every_kind_of_call_comes_in_its_share() -> None:
    calls = list(islice(mixed_calls(80), 10 * EVERY))
    assert sum(b'"stream": true' in call.request for call in calls) == pytest.approx(5 * EVERY, abs=50)
    assert sum(b'"model": "kept"' in call.request for call in calls) == 50
    assert len({call.request for call in calls if b'"model": "kept"' in call.request}) == 10
    for check in (check_refused, check_unknown, check_limited):
        assert sum(call.check is check for call in calls) == 10
    assert sum(call.leave == "sent" for call in calls) == 10
    assert sum(call.leave == "first_bytes" and call.check is check_stream for call in calls) == 10


def test_what_is_over_a_limit_or_unknown() -> None:
    check_limited(Answer(429, b"", closes=False), 7)
    check_unknown(Answer(404, b"", closes=False), 7)
    for check in (check_limited, check_unknown):
        with pytest.raises(WrongAnswer):
            check(Answer(500, b"", closes=False), 7)


def test_growth_and_slope() -> None:
    growth = Growth()
    for requests, rss_mb in [(0, 80.0), (50_000, 84.0), (100_000, 82.0)]:
        growth.add(requests, rss_mb)
    assert growth.grown_mb == 2.0
    assert growth.mb_per_100k == pytest.approx(2.0)


def test_samples_are_taken_between_the_calls() -> None:
    seen: list[int] = []
    calls = list(islice(mixed_calls(80), 10))
    assert list(sampled(iter(calls), 4, seen.append)) == calls
    assert seen == [0, 4, 8]


def test_a_refusal_of_an_overloaded_worker_is_counted_and_any_other_503_is_wrong() -> None:
    shed = Shed()
    call = shed(Call(b"", 7, check_unknown))
    call.check(Answer(404, b"", closes=False), 7)
    call.check(Answer(503, b'{"error": {"code": "server_is_overloaded"}}', closes=False), 7)
    assert shed.number == 1
    with pytest.raises(WrongAnswer):
        call.check(Answer(503, b"", closes=False), 7)
