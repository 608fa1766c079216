"""Generation as clients see it, as it is scraped."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.telemetry.tally import Tally

CHAT = ("chat", "route")
DURATION = "gen_ai_server_request_duration_seconds"
TTFT = "gen_ai_server_time_to_first_token_seconds"
TPOT = "gen_ai_server_time_per_output_token_seconds"
TOKENS = "gen_ai_client_token_usage"
USAGE = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}


class Rig:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tally = Tally()
        self.metrics = GenAiMetrics(self.tally, ["route", "embeds"], self.registry)

    def value(self, name: str, model: str = "route", operation: str = "chat", **labels: str) -> float | None:
        self.tally.flush()
        named: dict[str, Any] = {
            "gen_ai_operation_name": operation, "gen_ai_provider_name": "genkan", "gen_ai_request_model": model,
        }  # fmt: skip
        return self.registry.get_sample_value(name, named | labels)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_whole_answers_have_a_duration_and_tokens_and_no_first_token(rig: Rig) -> None:
    rig.metrics.ended(CHAT, "", 0.5, None, USAGE, True)
    rig.metrics.ended(CHAT, "", 1.5, None, {**USAGE, "completion_tokens": 1}, True)
    assert (rig.value(f"{DURATION}_count", error_type=""), rig.value(f"{DURATION}_sum", error_type="")) == (2.0, 2.0)
    assert rig.value(f"{TOKENS}_sum", gen_ai_token_type="input") == 14.0
    assert rig.value(f"{TOKENS}_sum", gen_ai_token_type="output") == 12.0
    assert rig.value(f"{TOKENS}_bucket", gen_ai_token_type="output", le="1.0") == 1.0
    assert (rig.value(f"{TTFT}_count"), rig.value(f"{TPOT}_count")) == (None, None)


def test_tokens_after_the_first_share_the_time_after_the_first(rig: Rig) -> None:
    rig.metrics.ended(CHAT, "", 1.2, 0.2, USAGE, True)
    assert rig.value(f"{TTFT}_sum") == 0.2
    assert rig.value(f"{TPOT}_sum") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("usage", "is_whole"),
    [(USAGE, False), (None, True), ({"prompt_tokens": 7}, True), ({**USAGE, "completion_tokens": 1}, True)],
)
def test_a_stream_of_which_that_cannot_be_told_has_a_first_token_only(
    rig: Rig, usage: dict[str, int] | None, is_whole: bool
) -> None:
    rig.metrics.ended(CHAT, "", 1.2, 0.2, usage, is_whole)
    assert rig.value(f"{TTFT}_count") == 1.0
    assert rig.value(f"{TPOT}_count") in (None, 0.0)


def test_one_that_does_not_say_its_tokens_takes_none_from_the_others(rig: Rig) -> None:
    for usage in (USAGE, {"total_tokens": 3}, None, USAGE):
        rig.metrics.ended(CHAT, "", 0.1, None, usage, True)
    assert rig.value(f"{TOKENS}_count", gen_ai_token_type="input") == 2.0
    assert rig.value(f"{DURATION}_count", error_type="") == 4.0


def test_errors_have_their_code_and_names_nobody_knows_are_other(rig: Rig) -> None:
    for number in range(50):
        rig.metrics.ended(("chat", f"made-up-{number}"), "model_not_found", 0.1, None, None, True)
    assert rig.value(f"{DURATION}_count", "other", error_type="model_not_found") == 50.0
    text = str([sample.labels for family in rig.registry.collect() for sample in family.samples])
    assert "made-up" not in text


def test_embeddings_have_no_tokens_of_an_answer(rig: Rig) -> None:
    rig.metrics.ended(("embeddings", "embeds"), "", 0.1, None, {"prompt_tokens": 5, "total_tokens": 5}, True)
    assert rig.value(f"{TOKENS}_sum", "embeds", "embeddings", gen_ai_token_type="input") == 5.0
    assert rig.value(f"{TOKENS}_sum", "embeds", "embeddings", gen_ai_token_type="output") is None


def test_chats_that_were_cut_are_counted(rig: Rig) -> None:
    rig.metrics.truncated(CHAT)
    rig.metrics.truncated(("chat", "unknown"))
    counts = [rig.registry.get_sample_value("genkan_truncations_total", {"route": name}) for name in ("route", "other")]
    assert counts == [1.0, 1.0]


def test_what_waits_is_written_with_what_the_tally_writes() -> None:
    async def ask() -> None:
        rig = Rig()
        rig.metrics.ended(CHAT, "", 0.5, None, USAGE, True)
        rig.metrics.truncated(CHAT)
        assert rig.registry.get_sample_value("genkan_truncations_total", {"route": "route"}) in (None, 0.0)
        assert rig.value(f"{DURATION}_count", error_type="") == 1.0

    asyncio.run(ask())
