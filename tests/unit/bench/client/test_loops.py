"""Open and closed loops, in virtual time: an open one does not wait for a server that stalls."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import repeat

import pytest
from virtual_time import LoopClock, run_virtually

from genkan.bench.client.arrivals import offsets_s
from genkan.bench.client.figures import times_s
from genkan.bench.client.loops import closed_loop, open_loop
from genkan.bench.client.outcome import Order, Outcome, Seen

CLOCK = LoopClock()


class Server:
    """Takes ``takes_s`` for each answer, but answers nothing from second ``stalls_s`` on for ``stall_s``."""

    def __init__(self, takes_s: float, stalls_s: float = 1e9, stall_s: float = 0.0) -> None:
        self._takes_s = takes_s
        self._stalls_s = 1000.0 + stalls_s  # the virtual loop's first reading
        self._stall_s = stall_s
        self.in_flight = self.most_in_flight = 0

    async def ask(self, request: bytes) -> Seen:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        done_s = CLOCK.monotonic() + self._takes_s
        if self._stalls_s <= done_s < self._stalls_s + self._stall_s:
            done_s = self._stalls_s + self._stall_s
        await asyncio.sleep(done_s - CLOCK.monotonic())
        self.in_flight -= 1
        return Seen(ended_s=CLOCK.monotonic(), status=200)


def orders(number: int) -> Iterator[Order]:
    return repeat(Order("all", b"request"), number)


def opened(server: Server, *, rate: float, number: int, room: int = 10_000) -> list[Outcome]:
    outcomes: list[Outcome] = []
    offsets = offsets_s("constant", rate, 0)
    run_virtually(open_loop(orders(number), offsets, server.ask, outcomes.append, CLOCK, max_in_flight=room))
    return outcomes


def closed(server: Server, clients: int, number: int, until_s: float | None = None) -> list[Outcome]:
    outcomes: list[Outcome] = []
    run_virtually(closed_loop(orders(number), clients, server.ask, outcomes.append, CLOCK, until_s=until_s))
    return outcomes


def slow(outcomes: list[Outcome], above_s: float) -> int:
    return sum(latency > above_s for latency in times_s(outcomes, "e2e"))


def test_a_stall_shows_in_every_request_that_was_due_meanwhile() -> None:
    stalling: Callable[[], Server] = lambda: Server(0.01, stalls_s=5.0, stall_s=2.0)  # noqa: E731
    outcomes = opened(stalling(), rate=100.0, number=1000)
    # Due evenly over two seconds: each waits for what is left of the stall. Half of them for more than a second.
    assert slow(outcomes, 0.02) == pytest.approx(200, abs=3)
    assert slow(outcomes, 1.0) == pytest.approx(100, abs=3)
    assert max(times_s(outcomes, "e2e")) == pytest.approx(2.0, abs=0.02)
    # What a closed loop of the same clients sees of the same stall: one slow request.
    assert slow(closed(stalling(), 1, 1000), 0.02) == 1


def test_a_client_without_room_counts_the_wait_as_the_servers_and_knows_that_it_was_late() -> None:
    server = Server(1.0)
    outcomes = opened(server, rate=10.0, number=20, room=5)
    assert server.most_in_flight == 5
    # Five a second are answered and ten are due: the last, due after 1.9 s, is sent after 3 s and takes one.
    assert outcomes[-1].latency_s == pytest.approx(3.0 + 0.4 + 1.0 - 1.9, abs=0.5)
    assert outcomes[-1].delay_s == pytest.approx(outcomes[-1].latency_s - 1.0)
    assert outcomes[0].delay_s == 0.0


def test_an_open_loop_sends_at_its_rate_whatever_is_under_way() -> None:
    server = Server(3.0)
    outcomes = opened(server, rate=10.0, number=20)
    assert server.most_in_flight == 20
    assert [round(outcome.due_s - 1000.0, 6) for outcome in outcomes] == [number / 10 for number in range(20)]
    assert times_s(outcomes, "e2e") == pytest.approx([3.0] * 20)


def test_an_open_loop_ends_with_its_offsets() -> None:
    outcomes: list[Outcome] = []
    offsets = offsets_s("constant", 10.0, 0, until_s=1.0)
    run_virtually(open_loop(orders(1000), offsets, Server(0.5).ask, outcomes.append, CLOCK, max_in_flight=100))
    assert len(outcomes) == 10


def test_a_closed_loop_has_as_many_in_flight_as_clients() -> None:
    server = Server(0.5)
    assert len(closed(server, 4, 10)) == 10
    assert server.most_in_flight == 4


def test_a_closed_loop_ends_in_time_and_waits_for_what_is_under_way() -> None:
    outcomes = closed(Server(0.3), 2, 1000, until_s=1.0)
    assert len(outcomes) == 8
    assert all(outcome.seen.ended_s for outcome in outcomes)
