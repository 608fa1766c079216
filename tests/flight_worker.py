"""A worker of flights in a process of its own, that asks for one request and then does what it is told.

``python flight_worker.py URL PREFIX``: says ``asked`` on its stdout as soon as it asks. Each line that it is told is a
word of the answer, or nothing for the end; it says ``done`` and its answer when that is all there. It does not end.
"""

import asyncio
import sys

from flight_asks import client
from redis_faults import connected_client, until

from genkan.cache.sealer import Sealer
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.flights import Flights
from genkan.store.address import parse_address

SECRET = b"s" * 32


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(url: str, prefix: str) -> None:
    async with connected_client(url) as redis:
        sealer = Sealer(SECRET, encrypt=False)
        relay = FlightRelay(redis, parse_address(url), sealer, prefix=prefix, connect_s=2.0, timeout_s=0.5)
        flights = Flights(relay)
        await flights.start()
        one = client(flights)
        await until(lambda: one.line.was_asked)
        say("asked")
        loop = asyncio.get_running_loop()
        while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            one.line.say(word)
        one.line.finish()
        await one.task
        say(f"done {one.text}")
        await loop.create_future()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
