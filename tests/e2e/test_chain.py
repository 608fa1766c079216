"""What a chain's answer tells of its way: headers, model, usage, metrics; and what goes through it untouched."""

from collections.abc import Generator
from typing import Any

import httpx
import openai
import pytest
from e2e.fault_gateway import BACKUP_MODEL, Case, FaultGateway
from e2e.tapped_client import QUESTION, TappedClient, tapped_client
from faults.canonical import TEXT, USAGE, VENDOR

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def client(faulty: FaultGateway) -> Generator[TappedClient, None, None]:
    with tapped_client(faulty.base_url) as client:
        yield client


@streamed
def test_model_usage_and_unknown_fields_are_those_of_the_one_that_answered(
    faulty: FaultGateway, client: TappedClient, stream: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    outcome = client.ask("500-for-ever.told.then-ok", stream=stream, **options)
    assert outcome.whole
    assert outcome.model == "ok"
    assert outcome.usage is not None
    assert outcome.usage.model_dump(exclude_unset=True, exclude_none=True) == USAGE
    assert outcome.more["x_vendor"] == VENDOR
    assert outcome.headers["x-genkan-model"] == BACKUP_MODEL
    assert outcome.headers["x-genkan-upstream"] == "backup"


@streamed
def test_unknown_fields_reach_the_upstream_and_the_gateways_own_do_not(
    faulty: FaultGateway, client: TappedClient, stream: bool
) -> None:
    ours: dict[str, Any] = {
        "genkan": {"cache": "no-cache", "tags": ["a"]},
        "prompt_cache": True,
        "cache_control": "auto",
    }
    outcome = client.ask("ok.told.alone", stream=stream, x_future={"deep": [1, None]}, seed=7, **ours)
    assert outcome.whole
    (attempt,) = faulty.primary.attempts()
    sent = attempt["body"]
    usage = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert sent == {"model": "ok", "messages": QUESTION, "x_future": {"deep": [1, None]}, "seed": 7, **usage}
    assert attempt["headers"]["accept-encoding"] == "identity"
    assert attempt["headers"]["x-tenant"] == "primary"
    assert "x-stainless-lang" not in attempt["headers"]


def test_usage_that_the_client_did_not_ask_for_does_not_show(client: TappedClient) -> None:
    outcome = client.ask("ok.told.alone", stream=True)
    assert outcome.usage is None
    assert b'"usage"' not in outcome.wire


@streamed
def test_text_completions_take_the_same_way(faulty: FaultGateway, stream: bool) -> None:
    with openai.OpenAI(base_url=f"{faulty.base_url}/v1", api_key="unused", max_retries=0, timeout=10) as sdk:
        route = "error-200.told.then-ok"
        if stream:
            chunks = sdk.completions.create(model=route, prompt="Count.", stream=True)
            text = "".join(chunk.choices[0].text for chunk in chunks)
        else:
            text = sdk.completions.create(model=route, prompt="Count.").choices[0].text
    assert text == TEXT
    assert [attempt["path"] for attempt in faulty.backup.attempts()] == ["/v1/completions"]


def test_the_native_call_takes_the_same_way(faulty: FaultGateway) -> None:
    body = {"model": "html-200.told.then-ok", "messages": QUESTION}
    reply = httpx.post(f"{faulty.base_url}/call", json=body, timeout=10, trust_env=False)
    assert reply.status_code == 200
    assert TEXT in reply.text
    assert reply.headers["x-genkan-upstream"] == "backup"


@streamed
def test_a_prompt_too_long_goes_on_to_a_larger_window_only(
    faulty: FaultGateway, client: TappedClient, stream: bool
) -> None:
    outcome = client.ask("windows", stream=stream)
    assert outcome.whole
    assert outcome.headers["x-genkan-model"] == "large-window"
    assert outcome.headers["x-genkan-fallback"] == "context_length_exceeded"
    assert outcome.attempts == 2  # the one whose window is no larger was not asked

    outcome = client.ask("windows-too-small", stream=stream)
    assert (outcome.status, outcome.code) == (400, "context_length_exceeded")
    assert outcome.attempts == 1


@streamed
@pytest.mark.parametrize("route", ["filtered-then-ok", "filtered-finish-then-ok"])
def test_a_content_filter_is_passed_by_where_the_route_says_so(client: TappedClient, route: str, stream: bool) -> None:
    outcome = client.ask(route, stream=stream)
    assert outcome.whole
    assert outcome.headers["x-genkan-model"] == BACKUP_MODEL


def test_a_fallback_that_refuses_the_request_does_not_hide_the_failure(
    faulty: FaultGateway, client: TappedClient
) -> None:
    assert client.ask("then-no-prefill", stream=True).whole
    prefill = [*QUESTION, {"role": "assistant", "content": "tok00 "}]
    outcome = client.ask("then-no-prefill", stream=False, messages=prefill)
    assert (outcome.status, outcome.code) == (502, "upstream_error")
    assert len(faulty.backup.attempts()) == 2


def test_metrics_count_attempts_retries_fallbacks_and_breaker_changes(
    faulty: FaultGateway, client: TappedClient
) -> None:
    once, failing = Case("500-once", "told", "alone"), Case("502-html", "told", "alone")
    parked = Case("unauthorized", "told", "then-ok")
    before = faulty.metrics()
    assert client.ask(once.route, stream=True).whole
    assert client.ask(failing.route, stream=False).attempts == 2
    assert [client.ask(parked.route, stream=False).attempts for _ in range(2)] == [2, 1]
    after = faulty.metrics()

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("attempts_total", deployment=once.deployment, outcome="upstream_error") == 1
    assert more("attempts_total", deployment=once.deployment, outcome="ok") == 1
    assert more("attempts_total", deployment=failing.deployment, outcome="upstream_unavailable") == 2
    assert more("attempts_total", deployment=parked.deployment, outcome="upstream_auth_error") == 1
    assert more("attempts_total", deployment="ok@backup", outcome="ok") == 2
    assert more("attempts_total") == 7
    assert more("upstream_ttft_seconds_count") == 1
    assert more("retries_total", deployment=once.deployment) == 1
    assert more("retries_total") == 2
    assert more("fallbacks_total", route=parked.route, reason="upstream_auth_error") == 1
    assert more("fallbacks_total", route=parked.route, reason="unavailable") == 1
    assert more("fallbacks_total") == 2
    assert more("breaker_changes_total", deployment=failing.deployment, to="open") == 1
    assert more("breaker_changes_total") == 1
    assert after.value("breaker_state", deployment=failing.deployment) == 2


def test_a_parked_upstream_is_passed_by_and_says_so(faulty: FaultGateway, client: TappedClient) -> None:
    alone = Case("unauthorized", "told", "alone")
    outcomes = [client.ask(alone.route, stream=stream) for stream in (False, True, False)]
    assert {(outcome.status, outcome.code) for outcome in outcomes} == {(502, "upstream_auth_error")}
    assert len(faulty.attempts(alone)) == 1
