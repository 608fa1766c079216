"""How the scheduler's experiments send their requests."""

import pytest
from countable_engine import CountableEngine

from genkan.bench import batching
from genkan.bench.workload import Request, Workload


@pytest.fixture
def engine() -> CountableEngine:
    return CountableEngine()


@pytest.fixture
def requests() -> list[Request]:
    return Workload(0).exponential(20, prompt_tokens=8, mean=10, longest=40)


def test_continuous_batching_asks_for_all_that_is_wanted_at_once(
    engine: CountableEngine, requests: list[Request]
) -> None:
    figures = batching.continuous(engine, requests)
    assert [call.max_tokens for call in engine.calls] == [request.output_tokens for request in requests]
    assert engine.most_at_once == len(requests)  # the engine's slots hold them back
    assert figures["tok_s"] > 0
    assert figures["short_p50_s"] > 0


def test_static_batches_run_every_row_as_long_as_the_longest(engine: CountableEngine, requests: list[Request]) -> None:
    batching.static(engine, requests)
    wanted = [request.output_tokens for request in requests]
    batches = [wanted[0:8], wanted[8:16], wanted[16:20]]
    assert [call.max_tokens for call in engine.calls] == [max(batch) for batch in batches for _ in batch]


def test_a_static_batch_begins_when_all_of_the_last_have_ended(
    engine: CountableEngine, requests: list[Request]
) -> None:
    batching.static(engine, requests)
    first = sum(call.max_tokens for call in engine.calls[:8])
    second = sum(call.max_tokens for call in engine.calls[8:16])
    begun = [call.generated_before for call in engine.calls]
    assert (begun[0], begun[8], begun[16]) == (0, first, first + second)


def test_neither_way_finds_what_another_left_in_the_cache(engine: CountableEngine, requests: list[Request]) -> None:
    batching.continuous(engine, requests)
    batching.static(engine, requests)
    assert len({call.namespace for call in engine.calls}) == 2


def test_clients_are_32_or_one(requests: list[Request]) -> None:
    many, one = CountableEngine(), CountableEngine()
    batching.concurrent(many, requests * 2)
    batching.serial(one, requests)
    assert (many.most_at_once, one.most_at_once) == (32, 1)


def test_a_long_prompt_comes_when_all_have_a_quarter_of_their_tokens(engine: CountableEngine) -> None:
    long = Request([9] * 100, output_tokens=1)
    gaps_s, late = batching.disturbed(engine, Workload(0).unique(8, prompt_tokens=8, output_tokens=40), long)
    assert len(gaps_s) == 8 * 39
    assert late.prompt_tokens == 100
    assert engine.calls[-1].prompt == long.prompt
    assert 8 * 10 <= engine.calls[-1].generated_before < 8 * 20


def test_gaps_are_told_in_milliseconds() -> None:
    figures = batching.gap_figures([0.010] * 99 + [0.110])
    assert figures == pytest.approx({"p50_ms": 10, "p99_ms": 11, "max_ms": 110, "p99_over_p50": 1.1})
