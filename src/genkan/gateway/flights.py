"""Requests that are the same and under way together are asked for once.

For one request of which there is only one it costs a task, and with Redis one round trip before the upstream is asked.
Source: singleflight of Go's x/sync, with followers of a stream, and leaders that may leave.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from genkan.gateway.boarded import B_co, Began, Boarded
from genkan.gateway.broadcast import Followed
from genkan.gateway.flight import Flight
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.passenger import OnComplete, Passenger
from genkan.wire.chat import GenerationRequest


class Flights:
    """The answers under way of one worker. `start` first, `aclose` at the end."""

    def __init__(self, relay: FlightRelay | None = None) -> None:
        """Without ``relay`` other workers are not asked."""
        self._relay = relay
        self._flights: dict[bytes, Flight] = {}
        self._tasks: dict[asyncio.Task[None], Flight] = {}  # also of flights that nobody can board any more
        self._is_closed = False

    @property
    def count(self) -> int:
        """So many flights are under way, or are being closed."""
        return len({*self._flights.values(), *self._tasks.values()})

    async def start(self) -> None:
        """Begin to share with other workers. Raises nothing."""
        if self._relay is not None:
            await self._relay.start(self._followed)

    async def aclose(self) -> None:
        """End what is under way: who waits for it gets ServerStopping. Later requests are asked for one by one."""
        self._is_closed = True
        for flight in [*self._flights.values(), *self._tasks.values()]:
            await flight.end()
            flight.close()
        if self._relay is not None:
            await self._relay.aclose()

    async def answer(
        self,
        key: bytes,
        request: GenerationRequest,
        ask: Callable[[], Awaitable[B_co]],
        *,
        request_id: str,
        timeout_s: float,
        on_complete: OnComplete | None = None,
    ) -> Boarded[B_co]:
        """An answer to ``request``, by ``ask`` or by that of another request with the same ``key`` of 16 bytes.

        ``ask`` is called once or never, in a task that may outlast this call: when this call is cancelled while others
        wait for the same, what was asked goes on. It settles with its own client by itself, whatever comes of it. Who
        has been cancelled, or was told an error, knows by whether ``ask`` was called whether there is something to
        settle here; it is not called after that.

        ``on_complete`` is called if ``ask`` gave the answer, when all of it has come and before anybody gets its end:
        with what it says, or None if it cannot be given again.

        ``timeout_s`` is what Redis may take; with 0 other workers are not asked. Raises what ``ask`` does,
        or a twin of what another's did.
        """
        passenger = Passenger(request, request_id, ask, on_complete)
        flight = self._flights.get(key)
        if flight is None:
            if self._is_closed:
                return await passenger.alone()
            flight = self._begun(key, passenger, timeout_s)
        elif flight.may_be_boarded:
            flight.add(passenger)
        else:
            return await passenger.alone()
        return await _boarded(flight, passenger)

    def _begun(self, key: bytes, passenger: Passenger[Began], timeout_s: float) -> Flight:
        flight = self._flights[key] = Flight(
            key, passenger.request, self._relay, timeout_s=timeout_s, on_closed=self._forget
        )
        flight.add(passenger)
        task = flight.start()
        self._tasks[task] = flight
        task.add_done_callback(self._tasks.pop)
        return flight

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _followed(self, key: bytes) -> Followed | None:
        flight = self._flights.get(key)
        return flight if flight is not None and flight.may_be_boarded and not flight.is_following else None


async def _boarded(flight: Flight, passenger: Passenger[B_co]) -> Boarded[B_co]:
    try:
        recording = await flight.embark(passenger)
        if recording is not None:
            boarded = passenger.board(recording)
            boarded.answer.on_close(partial(flight.leave, passenger))
            return boarded
    except BaseException:
        await flight.leave(passenger)
        raise
    await flight.leave(passenger)
    return await passenger.alone()
