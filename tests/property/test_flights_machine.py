"""Any schedule of joins, leaves, words, errors and ends: nobody is stopped by others, and nothing is left."""

import asyncio
from collections import defaultdict
from typing import Any

from flight_asks import Client, Line, asked, body_of, chunk, client, settled
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.errors import InvalidRequest, ServerStopping, UpstreamFailed
from genkan.gateway.flights import Flights

_KEYS = (bytes(16), bytes(15) + b"1")
_KEY = st.sampled_from(_KEYS)

_ACTS = st.tuples(st.sampled_from(["join", "join", "leave", "word", "word", "end", "unlucky", "lasting"]), _KEY)


class Machine:
    """Flights, the clients that ever joined, and what each line was told to say."""

    def __init__(self) -> None:
        self.flights = Flights()
        self.clients: dict[bytes, list[Client]] = defaultdict(list)
        self.said: dict[int, list[str]] = defaultdict(list)  # by line
        self.whole: set[int] = set()
        self.left: set[int] = set()
        self.ended: set[int] = set()

    def lines(self, key: bytes) -> list[tuple[Client, Line]]:
        """Those that are asked and can still say something."""
        return [(one, one.line) for one in self.clients[key] if one.line.is_open and id(one.line) not in self.ended]

    async def act(self, what: str, key: bytes, number: int, turns: int) -> None:
        if what == "join":
            one = client(self.flights, asked(stream=number % 3 != 0, include_usage=number % 3 == 1), key=key)
            if number % 3 == 0:
                self.whole.add(id(one.line))
            self.clients[key].append(one)
        elif what == "leave" and self.clients[key]:
            await self.leave_others_alone(self.clients[key], number)
        else:
            for _, line in self.lines(key):
                self.tell(line, what, number)
        await settled(turns)

    async def leave_others_alone(self, clients: list[Client], number: int) -> None:
        """One leaves; what was asked goes on if, with all that was said told, any other waits for it."""
        one = clients[number % len(clients)]
        if number % 2:
            await self.leave(one)
            return
        await settled(60)
        open_lines = [each.line for each in clients if each.line.is_open]
        await self.leave(one)
        await settled(60)
        is_wanted = any(not each.task.done() for each in clients)
        assert not (is_wanted and any(line.was_cancelled for line in open_lines))

    async def leave(self, one: Client) -> None:
        if not one.task.done():
            self.left.add(id(one))
            one.task.cancel()
            await settled(1)

    def tell(self, line: Line, what: str, number: int) -> None:
        name = id(line)
        if what == "word" and name not in self.whole:
            self.said[name].append(f"{name}.{number} ")
            line.said.put_nowait([chunk(self.said[name][-1])])
        elif what == "end":
            self.ended.add(name)
            if name in self.whole:
                self.said[name].append(f"{name} whole")
                line.said.put_nowait(body_of(self.said[name][-1]))
            else:
                line.finish()
        elif what in ("unlucky", "lasting") and not (name in self.whole and self.said[name]):
            self.ended.add(name)
            line.fail(InvalidRequest("no") if what == "lasting" else UpstreamFailed(upstream="", status_there=500))

    def check(self) -> None:
        for key in _KEYS:
            assert (
                len([line for one in self.clients[key] if (line := one.line).is_open and not line.was_cancelled]) <= 1
            )
            texts = ["".join(self.said[id(one.line)]) for one in self.clients[key]]
            for one in self.clients[key]:
                assert one.line.closes <= 1
                if one.payloads:
                    assert any(text.startswith(one.text) for text in texts)

    async def finish(self) -> None:
        """Let all that are still there have an answer."""
        for _ in range(2 * sum(map(len, self.clients.values())) + 2):
            for key in _KEYS:
                for _, line in self.lines(key):
                    self.tell(line, "end", 0)
            await settled(60)
        texts = {"".join(said) for said in self.said.values()}
        for one in (each for clients in self.clients.values() for each in clients):
            assert one.task.done()
            assert not one.line.is_open
            if id(one) in self.left:
                continue
            if one.error is None:
                assert one.text in texts or one.text == ""
                assert (one.is_leader is True) == one.line.was_asked
            else:
                assert isinstance(one.error, InvalidRequest | UpstreamFailed)
        for one in (each for clients in self.clients.values() for each in clients):
            assert len(one.completed) <= 1
        assert self.flights.count == 0
        assert not self.flights._flights


@settings(deadline=None)
@given(st.lists(st.tuples(_ACTS, st.integers(0, 11), st.integers(0, 12)), max_size=40))
def test_any_schedule(schedule: list[tuple[tuple[str, bytes], int, int]]) -> None:
    untold: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: untold.append(context))
        machine = Machine()
        for (what, key), number, turns in schedule:
            await machine.act(what, key, number, turns)
            machine.check()
        await machine.finish()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert untold == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(_ACTS, st.integers(0, 11), st.integers(0, 12)), max_size=20))
def test_it_can_be_stopped_at_any_time(schedule: list[tuple[tuple[str, bytes], int, int]]) -> None:
    async def run() -> None:
        machine = Machine()
        for (what, key), number, turns in schedule:
            await machine.act(what, key, number, turns)
        await machine.flights.aclose()
        await settled(60)
        assert machine.flights.count == 0
        for one in (each for clients in machine.clients.values() for each in clients):
            # Who asks for itself, as it could not be given what another got, is nobody's flight.
            assert one.task.done() or one.line.was_asked
            assert one.error is None or isinstance(one.error, ServerStopping | InvalidRequest | UpstreamFailed)
            await machine.leave(one)
        await settled(60)

    asyncio.run(run())
