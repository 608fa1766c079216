"""Metrics as BentoML shows them."""

from dataclasses import fields
from typing import Any, get_args

import pytest
from hand_clock import HandClock
from prometheus_client import CollectorRegistry

from genkan.engine.grammar.observer import GrammarResult
from genkan.engine.statistics import EngineStatistics, StepReport
from genkan.telemetry.metrics import EngineMetrics, HttpMetrics
from genkan.telemetry.tally import Tally

NOW = ("running", "waiting", "blocks", "free_blocks", "host_blocks", "free_host_blocks", "cached_pages", "pinned_pages")
SO_FAR = (
    "generated_tokens",
    "prompt_tokens",
    "cached_tokens",
    "preemptions",
    "swaps",
    "failed_steps",
    "evictions",
    "prefix_queries",
    "prefix_hits",
)
NAMES = {
    "running": "running_sequences",
    "waiting": "waiting_sequences",
    "blocks": "kv_blocks",
    "free_blocks": "kv_free_blocks",
    "host_blocks": "kv_host_blocks",
    "free_host_blocks": "kv_free_host_blocks",
    "cached_pages": "prefix_pages",
    "pinned_pages": "prefix_pinned_pages",
    "evictions": "prefix_evictions",
}

MODEL = {"model": "m"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def shown(registry: CollectorRegistry) -> dict[str, float | None]:
    """The metric that belongs to each number of EngineStatistics."""
    names = {field: f"genkan_engine_{NAMES.get(field, field)}" for field in (*NOW, *SO_FAR)}
    return {
        field: registry.get_sample_value(name if field in NOW else f"{name}_total", MODEL)
        for field, name in names.items()
    }


def numbered(start: int) -> dict[str, Any]:
    """Statistics in which every number is another."""
    return {field: start + place for place, field in enumerate((*NOW, *SO_FAR))}


def test_every_number_of_the_statistics_has_a_metric() -> None:
    assert {field.name for field in fields(EngineStatistics)} == {*NOW, *SO_FAR}


def test_the_engines_metrics_are_zero_from_the_start(registry: CollectorRegistry) -> None:
    EngineMetrics(registry).of("m")
    assert set(shown(registry).values()) == {0}


def test_gauges_follow_the_statistics_and_counters_count_up_to_them(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry).of("m")
    for start in (10, 30, 30, 50):
        metrics.changed(EngineStatistics(**numbered(start)))
        assert shown(registry) == numbered(start)


def test_a_gauge_goes_back_to_zero(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry).of("m")
    metrics.changed(EngineStatistics(running=1, waiting=3))
    metrics.changed(EngineStatistics(running=0, waiting=2))
    assert registry.get_sample_value("genkan_engine_running_sequences", MODEL) == 0
    assert registry.get_sample_value("genkan_engine_waiting_sequences", MODEL) == 2


def test_kv_use_is_the_share_of_blocks_that_hold_something(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry).of("m")
    assert registry.get_sample_value("genkan_engine_kv_use_ratio", MODEL) == 0
    metrics.changed(EngineStatistics(blocks=80, free_blocks=20))
    assert registry.get_sample_value("genkan_engine_kv_use_ratio", MODEL) == 0.75


def test_steps_are_counted_with_what_they_computed_and_for_whom(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    metrics = EngineMetrics(registry).of("m")
    metrics.stepped(
        StepReport(step_s=0.5, num_decodes=3, prompt_tokens=100, first_token_s=[1.0, 3.0], token_gap_s=[0.25] * 3)
    )
    metrics.stepped(StepReport(step_s=0.25, num_decodes=5, prompt_tokens=0, first_token_s=[], token_gap_s=[0.5] * 5))
    counts = {
        name: (value(f"genkan_engine_{name}_count", MODEL), value(f"genkan_engine_{name}_sum", MODEL))
        for name in ("step_seconds", "batch_sequences", "prefill_tokens", "ttft_seconds", "itl_seconds")
    }
    assert counts == {
        "step_seconds": (2, 0.75),
        "batch_sequences": (2, 8),
        "prefill_tokens": (1, 100),  # of steps that computed some
        "ttft_seconds": (2, 4.0),
        "itl_seconds": (8, 3.25),
    }


def test_models_have_their_own_numbers(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry)
    metrics.of("m").changed(EngineStatistics(running=1))
    metrics.of("other").changed(EngineStatistics(running=5))
    running = [registry.get_sample_value("genkan_engine_running_sequences", {"model": name}) for name in ("m", "other")]
    assert running == [1, 5]


def test_the_gpus_memory_is_read_once_a_second(registry: CollectorRegistry) -> None:
    clock, report = HandClock(), StepReport(step_s=1, num_decodes=1, prompt_tokens=0, first_token_s=[], token_gap_s=[])
    readings = iter([{"used": 1, "free": 9}, {"used": 7, "free": 3}])
    metrics = EngineMetrics(registry).of("m", lambda: next(readings), clock)

    def memory() -> list[float | None]:
        kinds = ("used", "free")
        return [registry.get_sample_value("genkan_engine_gpu_memory_bytes", MODEL | {"kind": kind}) for kind in kinds]

    metrics.stepped(report)
    assert memory() == [1, 9]
    clock.advance(0.9)
    metrics.stepped(report)
    assert memory() == [1, 9]
    clock.advance(0.2)
    metrics.stepped(report)
    assert memory() == [7, 3]


def test_requests_are_counted_by_path_and_status(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    metrics = HttpMetrics(Tally(), registry)
    metrics.finished("/v1/models", 200, 0.25)
    metrics.finished("/v1/models", 404, 0.5)
    assert value("genkan_requests_total", {"path": "/v1/models", "status": "200"}) == 1
    assert value("genkan_request_seconds_count", {"path": "/v1/models"}) == 2
    assert value("genkan_request_seconds_sum", {"path": "/v1/models"}) == 0.75


def test_grammars_are_counted_by_model_and_by_what_became_of_them(registry: CollectorRegistry) -> None:
    metrics = EngineMetrics(registry).of("m")
    name = "genkan_engine_grammars_total"
    results = get_args(GrammarResult)
    assert [registry.get_sample_value(name, {**MODEL, "result": result}) for result in results] == [0] * len(results)
    metrics.grammar_asked("cached")
    metrics.grammar_compiled(0.02)
    assert registry.get_sample_value(name, {**MODEL, "result": "cached"}) == 1
    assert registry.get_sample_value("genkan_engine_grammar_seconds_sum", MODEL) == 0.02
