"""What the cache's experiments ask and count, on an engine whose cache is known."""

import pytest
from countable_engine import CountableEngine

from genkan.bench import caching
from genkan.bench.workload import Request, Workload

SYSTEM_TOKENS = 64


@pytest.fixture
def requests() -> list[Request]:
    # 320 requests: each of the 20 prompts is first sent while no more than 32 run.
    return Workload(0).shared(320, system_tokens=SYSTEM_TOKENS, output_tokens=2)


def test_what_is_shared_is_found(requests: list[Request]) -> None:
    figures = caching.shared(CountableEngine(), requests)
    assert 0.8 < figures["hit_rate"] <= 300 / 320
    whole = sum(len(request.prompt) for request in requests)
    assert figures["tokens_saved"] == pytest.approx(figures["hit_rate"] * 320 * SYSTEM_TOKENS / whole)
    assert figures["rps"] > 0
    assert figures["ttft_p50_ms"] > 0


def test_every_run_begins_with_nothing_cached(requests: list[Request]) -> None:
    engine = CountableEngine()
    first, second = (caching.shared(engine, requests)["hit_rate"] for _ in range(2))
    assert first == second < 1


def test_with_a_namespace_each_nothing_is_found(requests: list[Request]) -> None:
    engine = CountableEngine()
    figures = caching.salted(engine, requests)
    assert (figures["hit_rate"], figures["tokens_saved"]) == (0, 0)
    assert [sorted(call.prompt) for call in engine.calls] == [sorted(request.prompt) for request in requests]


def test_at_most_32_are_served_at_once(requests: list[Request]) -> None:
    engine = CountableEngine()
    caching.shared(engine, requests)
    assert engine.most_at_once == 32


def test_processor_time_is_counted_where_nothing_is_shared() -> None:
    figures = caching.unique(CountableEngine(), Workload(0).unique(8, prompt_tokens=40, output_tokens=2))
    assert figures["cpu_s"] > 0
    assert figures["hit_rate"] == 0


def test_a_chat_finds_what_earlier_turns_had_but_for_the_last_page() -> None:
    engine = CountableEngine()
    reused = caching.chats(engine, turn_tokens=16)["reused"]
    assert len(engine.calls) == caching.CHATS * caching.TURNS
    # Of a history of n whole pages all are found but the last, which lacks the KV of the token sampled last.
    histories = [512 + turn * 32 for turn in range(1, caching.TURNS)]
    assert reused == sum(length - 16 for length in histories) / sum(histories)


def test_each_turn_begins_with_the_turn_before_and_its_answer() -> None:
    engine = CountableEngine()
    caching.chats(engine, turn_tokens=16)
    prompts = {tuple(call.prompt) for call in engine.calls}
    later = [prompt for prompt in prompts if len(prompt) > 512 + 16]
    assert len(later) == caching.CHATS * (caching.TURNS - 1)
    assert all(prompt[:-32] in prompts and prompt[-32:-16] == tuple(range(100, 116)) for prompt in later)
