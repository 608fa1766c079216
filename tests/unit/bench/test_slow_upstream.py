"""An upstream that takes its time, by a clock of the test's own."""

import asyncio

import pytest
from virtual_time import VirtualLoop

from genkan.bench.chat_traffic import EVENTS, Requests, digits, stream_writes, whole_answer
from genkan.bench.slow_upstream import AT_THE_END, SlowUpstream


class Transport:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.writes: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> None:
        self.writes.append((self._loop.time(), data))

    def writelines(self, data: list[bytes]) -> None:
        for each in data:
            self.write(each)


def answer(*, stream: bool) -> list[tuple[float, bytes]]:
    """What it writes to one request, and how many seconds after it."""

    async def main() -> list[tuple[float, bytes]]:
        loop = asyncio.get_running_loop()
        upstream, transport = SlowUpstream(loop, 3.0, 2.0), Transport(loop)
        upstream.connection_made(transport)  # type: ignore[arg-type]
        began_s = loop.time()
        upstream.data_received(Requests(80, stream=stream)(7))
        await asyncio.sleep(100)
        return [(at_s - began_s, data) for at_s, data in transport.writes]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def test_a_whole_answer_comes_late() -> None:
    [(at_s, data)] = answer(stream=False)
    assert at_s == pytest.approx(3.0)
    assert data == whole_answer(digits(7))


def test_the_events_of_a_stream_come_one_by_one() -> None:
    writes = answer(stream=True)
    assert [data for _, data in writes] == stream_writes(digits(7))
    last = EVENTS + 1 - AT_THE_END
    assert [at_s for at_s, _ in writes] == pytest.approx([2.0 * min(place, last - 1) for place in range(EVENTS + 1)])
