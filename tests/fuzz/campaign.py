"""``make fuzz``, or ``python -m fuzz.campaign`` in ``tests``: does any input get a 5xx, no answer, or a wrong error?

Inputs are numbered, and each is made of the seed and its number: ``--start 4711 --inputs 1`` asks that one again, and
``--resume`` goes on where the last campaign of the same seed was stopped. Fails, with the inputs at fault, where an
answer is a 5xx, takes more than 5 s, is no error of OpenAI's where it is an error, or is cut; and where the server is
not well afterwards. Memory is stated.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from fuzz.answers import HANG_S, MOST_HEAD, Answer, Malformed, fault, is_overload, read_answer
from fuzz.inputs import Input, make_input
from fuzz.rig import Part, Rig, running

CONNECTIONS: Final = 16
#: What is incomplete gets its answer, if any, within so long; then the client says that nothing more will come.
_PATIENCE_S: Final = 0.2
_SAVE_EVERY: Final = 1_000
_WARM_UP: Final = 500
_MOST_FAULTS: Final = 20
_OUT: Final = Path(__file__).parents[2] / "bench" / "out"


@dataclass(slots=True)
class Result:
    """What a campaign came to."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0  # raw inputs to which a server owes nothing
    overloads: int = 0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, given: Input, answer: Answer | None, took_s: float) -> None:
        """Count one answer."""
        self.asked += 1
        if answer is None:
            self.unanswered += 1
            return
        self.slowest_s = max(self.slowest_s, took_s)
        self.statuses[answer.status] += 1
        self.overloads += is_overload(answer)
        if (wrong := fault(given, answer)) is not None:
            self.blame(given, wrong)

    def blame(self, given: Input, wrong: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"{wrong} for {given.shown}")


class Client:
    """One connection after the other: a whole request leaves it open for the next, anything else does not."""

    def __init__(self, rig: Rig, result: Result) -> None:
        self._rig = rig
        self._result = result
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask_all(self, inputs: Iterator[Input]) -> None:
        """Each that is left of ``inputs``, which other clients take from too."""
        try:
            for given in inputs:
                await self._ask(given)
        finally:
            await self._hang_up()

    async def _ask(self, given: Input) -> None:
        if given.raw is not None:
            await self._hang_up()
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(HANG_S):
                answer = await self._answer(given)
        except TimeoutError:
            self._result.blame(given, f"nothing for {HANG_S:g} s")
            answer = None
        except (OSError, Malformed, asyncio.IncompleteReadError, ValueError) as error:
            if given.raw is None or isinstance(error, Malformed):
                self._result.blame(given, f"{type(error).__name__} {error}")
            answer = None
        else:
            if answer is None and given.raw is None:
                self._result.blame(given, "no answer")
        self._result.add(given, answer, time.monotonic() - started_s)
        if answer is None or answer.closes or given.raw is not None or given.kind in ("headers", "paths"):
            await self._hang_up()

    async def _answer(self, given: Input) -> Answer | None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._rig.port, limit=MOST_HEAD)
        reader, writer = self._streams
        writer.write(given.on_wire(self._rig.key))
        is_head = given.raw is None and given.method == "HEAD"
        reading = asyncio.ensure_future(read_answer(reader, is_head=is_head))
        try:
            if given.raw is not None:
                done, _ = await asyncio.wait([reading], timeout=_PATIENCE_S)
                if not done and writer.can_write_eof():
                    writer.write_eof()
            return await reading
        finally:
            reading.cancel()

    async def _hang_up(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def fuzz(rig: Rig, result: Result, inputs: Iterator[Input], connections: int = CONNECTIONS) -> None:
    """Ask all of ``inputs``, on so many connections at once."""
    async with asyncio.TaskGroup() as clients:
        for _ in range(connections):
            clients.create_task(Client(rig, result).ask_all(inputs))


def inputs_of(seed: int, start: int, count: int, part: Part) -> Iterator[Input]:
    return (make_input(seed, number, tame=part == "engine") for number in range(start, start + count))


@dataclass(frozen=True, slots=True)
class Options:
    """What a campaign is asked to do."""

    inputs: int
    engine_inputs: int
    seed: int
    start: int
    resume: bool

    @property
    def state(self) -> Path:
        return _OUT / f"fuzz-{self.seed}.json"

    @property
    def first(self) -> int:
        if self.resume and self.state.exists():
            return int(json.loads(self.state.read_text(encoding="utf-8"))["next"])
        return self.start


def campaign(options: Options, part: Part, count: int) -> Result:
    """One of the two parts; says what it came to."""
    result, start = Result(), options.first if part == "gateway" else 0
    end = options.start + count if part == "gateway" else count
    began_s = time.monotonic()
    connections = CONNECTIONS if part == "gateway" else 4
    with running(part) as rig:
        inputs = inputs_of(options.seed, start, max(0, end - start), part)
        asyncio.run(fuzz(rig, result, islice(inputs, _WARM_UP), connections))
        before_mb = rig.rss_mb()
        while (done := start + result.asked) < end and not result.faults:
            asyncio.run(fuzz(rig, result, islice(inputs, _SAVE_EVERY), connections))
            if part == "gateway":
                _save(options, start + result.asked)
            sys.stderr.write(f"\r{part}: {start + result.asked:,} of {end:,}")
            sys.stderr.flush()
            if start + result.asked == done:
                break
        after_mb = rig.rss_mb()
        if not rig.is_well():
            result.faults.append("the server is not well afterwards")
    sys.stderr.write("\n")
    _say(part, result, time.monotonic() - began_s, before_mb, after_mb)
    return result


def _save(options: Options, following: int) -> None:
    _OUT.mkdir(parents=True, exist_ok=True)
    options.state.write_text(json.dumps({"seed": options.seed, "next": following}), encoding="utf-8")


def _say(part: Part, result: Result, took_s: float, before_mb: float, after_mb: float) -> None:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(result.statuses.items()))
    lines = [
        f"{part}: {result.asked:,} inputs in {took_s:.0f} s, {len(result.faults)} faults, {result.overloads} overloads",
        f"  answers {statuses}; {result.unanswered:,} incomplete inputs without one",
        f"  slowest {result.slowest_s:.2f} s; memory of all processes {before_mb:.0f} MB, then {after_mb:.0f} MB",
        *(f"  {wrong}" for wrong in result.faults),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="at the gateway (100,000)")
    parser.add_argument("--engine-inputs", type=int, default=3_000, help="at the embedded engine (3,000)")
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--start", type=int, default=0, help="the number of the first input at the gateway")
    parser.add_argument("--resume", action="store_true", help="go on after what the same seed has asked before")
    options = Options(**vars(parser.parse_args()))
    results = [campaign(options, "gateway", options.inputs)] if options.inputs else []
    results += [campaign(options, "engine", options.engine_inputs)] if options.engine_inputs else []
    faults, overloads = sum(len(result.faults) for result in results), sum(result.overloads for result in results)
    asked = sum(result.asked for result in results)
    sys.stdout.write(json.dumps({"inputs": asked, "faults": faults, "overloads": overloads}) + "\n")
    return 1 if faults or overloads else 0


if __name__ == "__main__":
    sys.exit(main())
