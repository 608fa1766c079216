"""Four replicas against one cache, in virtual time: through the chain alone, and through the gateway's own walk."""

import heapq
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from scripted_upstreams import Told, VirtualClock, taken

from genkan.bench.affinity import LEAST_OF_ONE, MOST_IMBALANCE, Gateway, Unasked, compared, is_good
from genkan.bench.affinity_replicas import PAGE_TOKENS, Outcome, Replica, outcome, run
from genkan.bench.affinity_traffic import TOKEN_S, Traffic, Turn, turns
from genkan.config import AffinityConfig
from genkan.gateway.fallback import Fallback
from genkan.gateway.recorder import Unrecorded
from genkan.upstream.base import NO_CALL, Answer, Call
from genkan.wire.chat import GenerationRequest

#: Shorter than the benchmark's, at the same load.
SMALL = Traffic(
    chats=600,
    chats_per_s=6.0,
    system_tokens=(120, 2.0),
    user_tokens=(20, 1.5),
    answer_tokens=(50, 1.5),
    document_tokens=(200, 1.5),
)
ROOM = 3 << 16


class OfTenant(Unrecorded):
    """Only says whose request it is."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant


class CachingUpstream(Unasked):
    """A replica as an upstream that only the time ends an answer of."""

    def __init__(self, name: str, replica: Replica, clock: VirtualClock, asked: dict[int, Turn]) -> None:
        super().__init__(name)
        self._replica, self._clock, self._asked = replica, clock, asked

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        turn, began_s = self._asked[id(request)], self._clock.now_s
        page, prefill_s = self._replica.begin(turn, began_s)
        self._replica.busy_s += prefill_s + TOKEN_S * len(turn.answer)
        answer = Answer(batches=self._batches())

        async def end() -> None:
            kept = self._replica.keep(page, turn.prompt + turn.answer, self._clock.now_s)
            self._replica.end(kept, self._clock.now_s)

        answer.on_close(end)
        return answer

    async def _batches(self) -> AsyncGenerator[list[bytes], None]:
        yield [b"{}"]


def test_the_traffic_is_chats_that_repeat_all_before_in_the_order_of_time() -> None:
    told = turns(replace(SMALL, chats=50), seed=1)
    assert [turn.at_s for turn in told] == sorted(turn.at_s for turn in told)
    assert [turn.prompt for turn in told] == [turn.prompt for turn in turns(replace(SMALL, chats=50), seed=1)]
    longest = max(told, key=lambda turn: len(turn.request.messages))
    before = next(turn for turn in told if turn.request.messages == longest.request.messages[:-2])
    assert longest.prompt[: len(before.prompt) + len(before.answer)] == before.prompt + before.answer
    words = sum(len(message["content"].split()) for message in longest.request.messages)
    assert len(longest.prompt) == words + len(longest.request.messages) + 1, "a token a word, and one a role"


def test_a_replica_finds_what_it_has_computed_and_forgets_what_was_used_least() -> None:
    request = turns(replace(SMALL, chats=1), seed=1)[0].request
    first = Turn(0.0, "a", request, list(range(64)), list(range(64, 96)))
    second = Turn(9.0, "a", request, list(range(96)) + [7] * 16, [8] * 16)
    one = run([first, second], [Replica(1024)], lambda turn, now_s: 0)
    assert one.hit_rate == 96 / (64 + 112)
    other = Turn(9.0, "b", request, second.prompt, second.answer)
    assert run([first, other], [Replica(1024)], lambda turn, now_s: 0).hit_rate == 0.0, "another tenant"
    full = Turn(5.0, "b", request, [5] * 128, [])
    assert run([first, full, second], [Replica(8 * PAGE_TOKENS)], lambda turn, now_s: 0).hit_rate == 0.0


def test_affinity_reaches_nine_tenths_of_a_single_cache_and_the_load_is_even() -> None:
    outcomes = compared(turns(SMALL, seed=1), ROOM, AffinityConfig())
    assert is_good(outcomes), outcomes
    assert outcomes["affinity"].hit_rate > outcomes["by weight"].hit_rate + 0.1


@pytest.mark.anyio
async def test_so_it_does_through_the_gateways_own_walk() -> None:
    told = turns(SMALL, seed=2)
    one = run(told, [Replica(ROOM)], lambda turn, now_s: 0)
    affinity = await _walked(told, Gateway(AffinityConfig()))
    assert affinity.hit_rate >= LEAST_OF_ONE * one.hit_rate
    assert max(affinity.work_imbalance, affinity.in_flight_imbalance) <= MOST_IMBALANCE


async def _walked(told: list[Turn], gateway: Gateway) -> Outcome:
    clock, asked = VirtualClock(), {id(turn.request): turn for turn in told}
    began_s = clock.now_s
    replicas = [Replica(ROOM // 4) for _ in gateway.places]
    for place, replica in zip(gateway.places, replicas, strict=True):
        place.upstream = CachingUpstream(place.upstream.name, replica, clock, asked)
    fallback = Fallback(clock, Told(), clock.sleep)
    open_answers: list[tuple[float, int, Answer]] = []
    for number, turn in enumerate(told):
        while open_answers and open_answers[0][0] <= began_s + turn.at_s:
            clock.now_s, _, over = heapq.heappop(open_answers)
            await taken(over)
        clock.now_s = began_s + turn.at_s
        answer, _ = await fallback.respond(gateway.chain, turn.request, OfTenant(turn.tenant))
        heapq.heappush(open_answers, (clock.now_s + TOKEN_S * len(turn.answer), number, answer))
    for _, _, answer in open_answers:
        await taken(answer)
    assert all(place.in_flight == 0 for place in gateway.places)
    return outcome(replicas, told[-1].at_s - told[0].at_s)
