"""Prompts are counted while somebody can, and then estimated by what was counted."""

import pytest
from truncation_rig import CountingUpstream, chat, deployment, said

from genkan.gateway.scales import MOST_COUNTS, Scales

HELLO = chat([said("user", "hello there")])
TOKENS = 8  # as the rig counts it


@pytest.mark.anyio
async def test_the_first_that_can_say_is_asked_from_then_on() -> None:
    upstreams = [CountingUpstream(counts=0), CountingUpstream(), CountingUpstream()]
    scales = Scales([deployment(upstream, 100) for upstream in upstreams], 1.0)
    assert [await scales.weigh(HELLO, 4) for _ in range(3)] == [TOKENS] * 3
    assert [len(upstream.counted) for upstream in upstreams] == [0, 3, 0]
    assert scales.is_exact
    assert scales.likely(10) == 20


@pytest.mark.anyio
async def test_where_nobody_counts_an_estimate_is_a_fifth_more() -> None:
    scales = Scales([deployment(CountingUpstream(counts=0), 100)], 1.0)
    assert scales.likely(100) == 100
    assert await scales.weigh(HELLO, 100) == 120
    assert not scales.is_exact
    assert scales.likely(100) == 120


@pytest.mark.anyio
async def test_estimates_go_on_from_what_was_counted() -> None:
    scales = Scales([deployment(CountingUpstream(counts=1), 100)], 1.0)
    assert await scales.weigh(HELLO, 2 * TOKENS) == TOKENS
    assert await scales.weigh(HELLO, 100) == 60
    assert not scales.is_exact


@pytest.mark.anyio
async def test_it_counts_so_often_and_no_more() -> None:
    upstream = CountingUpstream()
    scales = Scales([deployment(upstream, 100)], 1.0)
    for _ in range(MOST_COUNTS):
        assert await scales.weigh(HELLO, TOKENS) == TOKENS
    assert scales.is_exact
    assert await scales.weigh(HELLO, 10) == 12
    assert len(upstream.counted) == MOST_COUNTS
    assert not scales.is_exact


@pytest.mark.anyio
async def test_without_time_nobody_is_asked() -> None:
    upstream = CountingUpstream()
    assert await Scales([deployment(upstream, 100)], 0.0).weigh(HELLO, 10) == 12
    assert upstream.counted == []


@pytest.mark.anyio
async def test_who_takes_all_the_time_is_late() -> None:
    upstreams = [CountingUpstream("a", counts=0), CountingUpstream("b", hangs=True), CountingUpstream("c")]
    deployments = [deployment(upstream, 100) for upstream in upstreams]
    scales = Scales(deployments, 0.05)
    assert await scales.weigh(HELLO, 10) == 12
    assert scales.late is deployments[1]
    assert [upstream.num_asked for upstream in upstreams] == [1, 1, 0]
