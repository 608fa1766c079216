"""Hedged streams that fail, break, run out of time and lose their clients: each is whole, and nothing is left over."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import orjson
import pytest
from accounts_at_hand import AccountsAtHand
from resume_rig import TEXT, TOKENS, Taken, Teller, Tells
from scripted_upstreams import Told, failed, refused, router_to
from virtual_time import LoopClock, run_virtually

from genkan.config import Config
from genkan.errors import RequestError
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.upstream.base import NO_CALL, Answer, Call
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

REQUESTS = 300
CONCURRENT = 6


class SleepingClock(LoopClock):
    """The loop's time, and who sleeps on it sleeps in the loop."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class LateTeller(Teller):
    """Tells as Teller does, after as long as ``wait_s`` says each time; the waits of one request are counted."""

    def __init__(self, name: str, wait_s: Callable[[], float], *turns: Tells) -> None:
        super().__init__(name, *turns)
        self.asked: Counter[str] = Counter()
        self.running = 0
        self._wait_s = wait_s

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        self.asked[call.id.rpartition(".")[0]] += 1
        call.is_sent = True
        self.running += 1
        try:
            await asyncio.sleep(self._wait_s())
        finally:
            self.running -= 1
        return await super().respond(request, model, total_s=total_s, call=call)


class HedgedStreams(AccountsAtHand):
    """Two upstreams of one model within limits, behind a route that hedges and goes on with what breaks."""

    def __init__(self, *upstreams: LateTeller) -> None:
        names = [upstream.name for upstream in upstreams]
        limits = {"concurrent": CONCURRENT}
        config = Config.model_validate(
            {
                "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in names],
                "models": [
                    {
                        "name": "big",
                        "deployments": [
                            {"upstream": name, "limits": limits, "limit_wait_s": 0.2, "weight": 0 if nth else 1}
                            for nth, name in enumerate(names)
                        ],
                    }
                ],
                "routes": [
                    {
                        "alias": "nick",
                        "chain": ["big"],
                        "hedge": {"min_samples": 10, "quantile": 0.5, "budget_ratio": 0.5, "budget_min": 5},
                    }
                ],
                "prices": {"models": [{"model": "big", "input": 2.0, "output": 8.0}]},
            }
        )
        clock = SleepingClock()
        super().__init__(config, clock)  # type: ignore[arg-type]  # another clock with the same methods
        self.upstreams = upstreams
        self.seen = Told()
        self.router = router_to(config, upstreams, self.meter)
        self.responder = Pipeline(self.router, Fallback(clock, self.seen), self.admissions)

    async def taken(self, number: int, leaves_after: int | None = None) -> Taken:
        """An answer, or as many of its batches as the client waits for. Raises RequestError before it has begun."""
        raw = {"model": "nick", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        answer = await self.responder.respond(ChatRequest.from_object(raw), Caller(f"req_{number}", "acme", "key_1"))
        taken = Taken(answer=answer)
        batches = 0
        try:
            assert answer.batches is not None
            async for batch in answer.batches:
                taken.chunks += map(orjson.loads, batch)
                batches += 1
                if batches == leaves_after:
                    break
        except RequestError as error:
            taken.error = error
        finally:
            await answer.aclose()
        taken.fields = answer.fields
        return taken

    async def assert_at_rest(self) -> None:
        """Nobody runs, no answer is open, no place and no lease is taken."""
        await self.settled()
        for upstream, deployment in zip(self.upstreams, self.router.deployments, strict=True):
            assert (upstream.running, upstream.open, deployment.in_flight) == (0, 0, 0), deployment.name
            assert deployment.meter is not None
            (lease,) = await self.accounts.read(deployment.meter.plan)
            assert lease.remaining == CONCURRENT, deployment.name


def test_a_second_that_answers_and_breaks_is_gone_on_with_and_the_client_pays_one_answer() -> None:
    async def run() -> None:
        waits = iter([0.01] * 10 + [3600.0] + [0.01])
        first = LateTeller("up-1", lambda: next(waits))
        second = LateTeller("up-2", lambda: 0.0, Tells(cut_after=5))
        async with HedgedStreams(first, second) as streams:
            for number in range(10):
                await streams.taken(number)
            taken = await streams.taken(10)
            assert (taken.text, taken.is_one) == (TEXT, True)
            assert (taken.fields["hedged"], taken.fields["attempts"]) == ("won", 3)
            row = next(row for row in await streams.rows() if row.id == "req_10")
            states = [(attempt.deployment, attempt.state) for attempt in row.attempts]
            assert states == [
                ("big@up-1", "hedged"), ("big@up-2", "upstream_stream_interrupted"), ("big@up-1", "ok"),
            ]  # fmt: skip
            assert (row.state, row.answered) == ("ok", 2)
            assert row.usage is not None
            assert row.usage.completion == len(TOKENS)
            await streams.assert_at_rest()

    run_virtually(run())


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_fails_and_whoever_leaves_answers_are_whole_and_nothing_is_left(seed: int) -> None:
    dice = random.Random(seed)

    def wait_s() -> float:
        return dice.choice([0.0, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2, 0.25, 0.3, 0.5, 3600.0])

    def turn() -> Tells:
        if (kind := dice.random()) < 0.05:
            return Tells(refuses=failed() if kind < 0.03 else refused())
        return Tells(cut_after=dice.choice([0, 5, 11]) if kind < 0.25 else None)

    async def one(streams: HedgedStreams, number: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(dice.choice([0.1, 0.2, 0.3, 5.0, 5.0, 5.0, 5.0])):
                taken = await streams.taken(number, dice.choice([1, None, None, None]))
        except (RequestError, TimeoutError) as error:
            assert task.cancelling() == 0
            return "timeout" if isinstance(error, TimeoutError) else error.outcome
        assert task.cancelling() == 0
        assert TEXT.startswith(taken.text)
        if taken.error is not None:
            return taken.error.outcome
        return "whole" if taken.is_one else "left"

    async def run() -> None:
        tellers = [LateTeller(name, wait_s, *(turn() for _ in range(REQUESTS))) for name in ("up-1", "up-2")]
        async with HedgedStreams(*tellers) as streams:
            tasks = []
            for number in range(REQUESTS):
                tasks.append(asyncio.create_task(one(streams, number)))
                if dice.random() < 0.2:
                    leaves_s = dice.choice([0.0, 0.05, 0.1, 0.2, 0.3])
                    asyncio.get_running_loop().call_later(leaves_s, tasks[-1].cancel)
                await asyncio.sleep(dice.expovariate(20.0))
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(1.0)  # the last to leave have left
            ends = Counter("gone" if isinstance(end, asyncio.CancelledError) else end for end in ended)
            assert {"whole", "left", "gone", "timeout"} <= set(ends)
            assert all(isinstance(end, str) for end in ends), ends
            assert {"won", "lost"} <= {outcome for _, outcome in streams.seen.hedges}
            assert "ok" in {outcome for _, _, outcome in streams.seen.resumes}
            await streams.assert_at_rest()
            rows = await streams.rows()
            assert len(rows) == REQUESTS
            for row in rows:
                assert len(row.attempts) == sum(teller.asked[row.id] for teller in tellers)

    run_virtually(run())
