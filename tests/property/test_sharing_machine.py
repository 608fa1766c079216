"""Any schedule of requests that share answers, through the whole pipeline: each settles once, and nothing is left."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from caching_rig import Rig, ask, caller, text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from responders import HELLO_BODY, USAGE, chunk
from scripted_upstreams import ServedBy
from ticket_rig import BIG_NANO, CONFIG

from genkan.config import Config
from genkan.errors import RequestError, ServerStopping, UpstreamFailed, UpstreamRefused
from genkan.gateway.pipeline import Pipeline
from genkan.store.accounts import Unit
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest

_TURNS = 40  # in which everything happens that can
MODES = st.sampled_from([*["default"] * 8, "no-cache", "no-store", "only"])
ACTS = st.one_of(
    st.tuples(st.just("join"), MODES, st.booleans(), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("join"), MODES, st.booleans(), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.sampled_from(["leave", "word", "word", "end", "tools", "fail", "refuse", "purge", "expire"])),
)


def roomy() -> Config:
    config = CONFIG.model_dump(exclude_unset=True)
    config["limits"] = {"tenant": {"tokens": {"limit": 10**9}, "concurrent": 1000}}
    config["tenants"] = [{"name": "acme", "budgets": [{"per": "total", "usd": 1000, "tokens": 10**9}]}]
    return Config.model_validate(config)


@dataclass
class Upstream:
    """Says what it is told; ``calls`` are those under way, each with what it is still to say."""

    calls: list["asyncio.Queue[list[bytes] | bytes | Exception | None]"] = field(default_factory=list)
    ended: int = 0  # so many answers were given to their end

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        said: asyncio.Queue[list[bytes] | bytes | Exception | None] = asyncio.Queue()
        self.calls.append(said)
        try:
            first = await said.get()
            while not request.stream and isinstance(first, list):
                first = await said.get()
            if isinstance(first, Exception):
                raise first
        except BaseException:
            self.calls.remove(said)
            raise
        if not request.stream:
            self.ended += 1
            answer = Answer(body=HELLO_BODY)
        else:
            answer = Answer(batches=self._stream(first if isinstance(first, list) else None, said))

        async def close() -> None:
            await asyncio.sleep(0)  # as one that tells its server
            self.calls.remove(said)

        answer.on_close(close)
        return answer

    async def _stream(
        self, batch: list[bytes] | None, said: "asyncio.Queue[list[bytes] | bytes | Exception | None]"
    ) -> AsyncGenerator[list[bytes], None]:
        while batch is not None:
            yield batch
            told = await said.get()
            if isinstance(told, Exception):
                raise told
            batch = told if isinstance(told, list) else None
        self.ended += 1
        yield [chunk(finish_reason="stop"), chunk(usage=USAGE)]

    def tell(self, what: list[bytes] | Exception | None) -> None:
        for said in self.calls:
            said.put_nowait(what)


@dataclass
class Machine:
    """A pipeline, and who asked it."""

    rig: Rig
    upstream: Upstream
    pipeline: Pipeline
    tasks: list["asyncio.Task[str]"] = field(default_factory=list)

    async def act(self, what: str, *how: Any) -> None:
        match what:
            case "join":
                self.tasks.append(asyncio.create_task(self._ask(len(self.tasks), *how)))
            case "leave":
                under_way = [task for task in self.tasks if not task.done()]
                if under_way:
                    under_way[len(self.tasks) % len(under_way)].cancel()
            case "word":
                self.upstream.tell([chunk("Hel")])
            case "end":
                self.upstream.tell(None)
            case "tools":
                call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
                choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
                self.upstream.tell([orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice]})])
            case "fail":
                self.upstream.tell(UpstreamFailed(upstream="up-1", status_there=500))
            case "refuse":
                self.upstream.tell(
                    UpstreamRefused(
                        "no", upstream="up-1", status=400, kind="invalid_request_error", code=None, param=None,
                        retry_after_s=None,
                    )
                )  # fmt: skip
            case "purge":
                await self.rig.cache.exact.purge(tenant="acme")
            case _ if all(task.done() for task in self.tasks):  # else their leases run out too
                self.rig.clock.now_s += 4000

    async def _ask(self, number: int, mode: str, stream: bool, text: int) -> str:
        request = ask(f"Which {text}?", stream=stream, genkan={"cache": mode})
        return await text_of(await self.pipeline.respond(request, caller(number)))

    async def settled(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Let all that are left have an answer."""
        while not all(task.done() for task in self.tasks):
            self.upstream.tell(None)
            await self.settled()

    async def check(self) -> None:
        """Of whom there was: how each ended, and what stands in the books."""
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        rig = self.rig
        await self.settled()
        assert rig.cache.flights.count == 0
        assert not rig.cache.flights._flights
        assert not self.upstream.calls
        rows = await rig.rows()
        # Who left before it was begun has nothing to be settled.
        begun = {f"req_{n}" for n, outcome in enumerate(outcomes) if not isinstance(outcome, asyncio.CancelledError)}
        counted = Counter(row.id for row in rows)
        assert set(counted.values()) <= {1}
        assert begun <= set(counted)
        by_id = {row.id: row for row in rows}
        for number, outcome in enumerate(outcomes):
            if (row := by_id.get(f"req_{number}")) is not None:
                self._check_one(row.state, row.cost_nano_usd or 0, row.tier, outcome)
        counted_nano_usd = sum(row.cost_nano_usd or 0 for row in rows if not row.estimated)
        assert counted_nano_usd == self.upstream.ended * BIG_NANO  # whoever was there to read it
        await self._check_accounts(sum(row.cost_nano_usd or 0 for row in rows))

    def _check_one(self, state: str, cost_nano_usd: int, tier: str | None, outcome: str | BaseException) -> None:
        if tier is not None:
            assert cost_nano_usd == 0
        if isinstance(outcome, str):
            assert state == "ok"
            assert tier is not None or cost_nano_usd == BIG_NANO
        elif isinstance(outcome, RequestError):
            # Who was asked for when the server stops is as one whose client left.
            stopped = {"client_gone"} if isinstance(outcome, ServerStopping) else set()
            assert state in {outcome.outcome, "refused"} | stopped
        else:
            assert isinstance(outcome, asyncio.CancelledError), outcome

    async def _check_accounts(self, paid_nano_usd: int) -> None:
        plan = self.rig.policies.of(caller(0), "big", self.rig.clock.unix()).plan
        states = await self.rig.accounts.read(plan)
        for line, state in zip(plan, states, strict=True):
            if line.kind == "lease":
                assert state.remaining == line.limit
            elif line.unit is Unit.BUDGET_NANO_USD:
                assert line.limit - state.remaining == paid_nano_usd


async def _run(schedule: list[tuple[tuple[Any, ...], int]], *, stops: bool) -> None:
    untold: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: untold.append(context))
    async with Rig(roomy()) as rig:
        upstream = Upstream()
        machine = Machine(rig, upstream, rig.cached(ServedBy(upstream, "up-1")))
        for act, turns in schedule:
            await machine.act(*act)
            for _ in range(turns):
                await asyncio.sleep(0)
        if stops:
            await rig.cache.aclose()
        await machine.finish()
        await machine.check()
        await rig.cache.aclose()
        del machine
    gc.collect()
    assert untold == []


SCHEDULES = st.lists(st.tuples(ACTS, st.sampled_from([0, 1, 2, 3, 5, 8, 13, 30])), max_size=40)


@settings(deadline=None, max_examples=80)
@given(SCHEDULES)
def test_any_schedule(schedule: list[tuple[tuple[Any, ...], int]]) -> None:
    asyncio.run(_run(schedule, stops=False))


@settings(deadline=None, max_examples=40)
@given(SCHEDULES)
def test_it_can_be_stopped_at_any_time(schedule: list[tuple[tuple[Any, ...], int]]) -> None:
    asyncio.run(_run(schedule, stops=True))
