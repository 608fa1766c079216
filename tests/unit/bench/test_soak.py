"""The soak: what it sends, and what it says of a process's memory."""

import asyncio
from itertools import islice

import pytest

from genkan.bench.chat_traffic import check_refused, check_stream, check_whole
from genkan.bench.cores import divide
from genkan.bench.gateway_arms import serving
from genkan.bench.soak import CONNECTIONS, EVERY, Growth, mixed_calls, sampled, soak


def test_every_kind_of_call_comes_in_its_share() -> None:
    calls = list(islice(mixed_calls(80), 10 * EVERY))
    assert sum(b'"stream": true' in call.request for call in calls) == pytest.approx(5 * EVERY, abs=10)
    assert sum(call.check is check_refused for call in calls) == 10
    assert sum(call.leave == "sent" for call in calls) == 10
    assert sum(call.leave == "first_bytes" and call.check is check_stream for call in calls) == 10
    assert {call.check for call in calls} == {check_refused, check_stream, check_whole}


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


def test_it_takes_the_requests_after_the_warm_up_into_account_and_all_end_well() -> None:
    with serving(["direct"], divide()) as [upstream]:  # the upstream itself also says 400, and survives who leaves
        growth, measured = asyncio.run(soak(upstream, requests=1_000))
    assert (growth.requests[0], growth.requests[-1], measured.ended) == (0, 1_000, 1_000)
    assert len(growth.requests) > CONNECTIONS
    assert all(1 < each < 500 for each in growth.rss_mb)
