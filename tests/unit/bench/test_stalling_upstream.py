"""The upstream that stalls does so for one request in twenty, and for each attempt anew."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from genkan.bench.chat_traffic import EVENTS, PATH, digits
from genkan.bench.stalling_upstream import STALL_S, STALLED_SHARE, StallingUpstream, first_token_s


def stalled(replica: str, attempt: int) -> set[int]:
    return {number for number in range(4000) if first_token_s(replica, digits(number), attempt) > STALL_S}


def test_one_in_twenty_stalls_and_another_attempt_or_replica_knows_nothing_of_it() -> None:
    first = stalled("1", 1)
    assert len(first) == pytest.approx(4000 * STALLED_SHARE, rel=0.2)
    for other in (stalled("1", 2), stalled("2", 1)):
        assert len(first & other) < 3 * 4000 * STALLED_SHARE**2
    assert stalled("1", 1) == first


@pytest.mark.anyio
async def test_a_stream_is_whole_and_each_attempt_is_counted() -> None:
    loop = asyncio.get_running_loop()
    attempts: Counter[bytes] = Counter()
    server = await loop.create_server(lambda: StallingUpstream(loop, "1", attempts), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    body = {"messages": [{"role": "user", "content": "request 0000000042"}], "stream": True}
    async with server, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(2):
            async with session.post(PATH, json=body) as response:
                assert (await response.read()).count(b"data: ") == EVENTS
    assert attempts == {digits(42): 2}
