"""Load on an engine: what is asked of it, how many at once, and what comes back."""

import pytest
from countable_engine import CountableEngine

from genkan.bench import load
from genkan.bench.timing import Answer
from genkan.bench.workload import Request

pytestmark = pytest.mark.anyio


def requests(number: int, output_tokens: int = 3) -> list[Request]:
    return [Request([index] * 20, output_tokens + index) for index in range(number)]


async def test_an_answer_has_every_token_and_when_it_came() -> None:
    answer = await load.answer(CountableEngine(), Request([7] * 20, output_tokens=3))
    assert answer.ids == [100, 101, 102]
    assert answer.prompt_tokens == 20
    assert [answer.submitted_s, *answer.token_s] == sorted({answer.submitted_s, *answer.token_s})


async def test_what_the_engine_found_in_its_cache_is_told() -> None:
    engine = CountableEngine()
    request = Request([7] * 40, output_tokens=1, namespace=b"a")
    assert [(await load.answer(engine, request)).cached_tokens for _ in range(2)] == [0, 32]


async def test_every_token_is_announced() -> None:
    seen: list[None] = []
    await load.answer(CountableEngine(), Request([7], output_tokens=5), lambda: seen.append(None))
    assert len(seen) == 5


async def test_together_all_run_at_once_and_are_answered_in_order() -> None:
    engine = CountableEngine()
    answers = await load.together(engine, requests(5))
    assert engine.most_at_once == 5
    assert [len(answer.ids) for answer in answers] == [3, 4, 5, 6, 7]


async def test_clients_send_their_next_request_when_the_last_is_answered() -> None:
    engine = CountableEngine()
    answers = await load.clients(engine, requests(9), number=4)
    assert engine.most_at_once == 4
    assert [call.prompt[0] for call in engine.calls] == list(range(9))
    assert [len(answer.ids) for answer in answers] == list(range(3, 12))


async def test_more_clients_than_requests_are_no_harm() -> None:
    assert len(await load.clients(CountableEngine(), requests(2), number=4)) == 2


async def test_rates_count_from_the_first_request_to_the_last_token() -> None:
    early = Answer(1.0, [2.0, 3.0], [0, 0], prompt_tokens=1, cached_tokens=0)
    late = Answer(2.0, [4.0, 5.0], [0, 0], prompt_tokens=1, cached_tokens=0)
    assert load.elapsed_s([late, early]) == 4.0
    assert load.tokens_per_s([late, early]) == 1.0
