"""More requests than an upstream may be given: some wait, the others are sent away at once and told when to return."""

import statistics
import time
from typing import Any

import httpx
from e2e.fault_gateway import BACKUP_MODEL, NARROW_LIMIT, NARROW_QUEUE, FaultGateway
from e2e.live_server import wait_until
from e2e.raw_question import read_all, send, taken_in
from e2e.tapped_client import QUESTION, tapped_client
from faults.canonical import TEXT

#: The promise. The median of several tries tells a slow answer from a machine that is busy with other things.
REFUSED_WITHIN_S = 0.05
TRIES = 15
#: An answer has sixty tokens, so who has a place keeps it for 1.2 s.
DELAY_MS = 20


def wait_running(gateway: FaultGateway, count: int) -> None:
    wait_until(lambda: len(gateway.primary.attempts("slow-ok")) == count, 5, f"{count} have reached the upstream")


def test_who_finds_the_queue_full_is_told_so_at_once_and_who_waits_is_served(faulty: FaultGateway) -> None:
    inside = [send(faulty, "slow", x_delay_ms=DELAY_MS) for _ in range(NARROW_LIMIT + NARROW_QUEUE)]
    wait_running(faulty, NARROW_LIMIT)
    taken_in(faulty)

    with httpx.Client(base_url=faulty.base_url, timeout=5, trust_env=False) as client:
        refusals = [refusal(client, stream=place % 2 == 0) for place in range(TRIES)]

    assert len(faulty.primary.attempts()) == NARROW_LIMIT  # all of it happened while the places were taken
    assert statistics.median(refusals) < REFUSED_WITHIN_S
    for connection in inside:
        status, answer = read_all(connection)
        assert status == 200
        assert answer["choices"][0]["message"]["content"] == TEXT
    attempts = faulty.primary.attempts()
    assert len(attempts) == NARROW_LIMIT + NARROW_QUEUE
    assert most_at_once(attempts) == NARROW_LIMIT


def refusal(client: httpx.Client, *, stream: bool) -> float:
    """Seconds that it took to be sent away."""
    began_s = time.monotonic()
    reply = client.post("/v1/chat/completions", json={"model": "slow", "messages": QUESTION, "stream": stream})
    seconds = time.monotonic() - began_s
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "server_is_overloaded"
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert "x-should-retry" not in reply.headers
    return seconds


def most_at_once(attempts: list[dict[str, Any]]) -> int:
    """How many attempts ran at the same moment, at most."""
    spans = [(attempt["began_at_s"], attempt["ended_at_s"]) for attempt in attempts]
    return max(len([None for began, ended in spans if began <= moment < ended]) for moment, _ in spans)


def test_who_finds_the_queue_full_goes_on_along_the_chain(faulty: FaultGateway) -> None:
    inside = [send(faulty, "slow", x_delay_ms=DELAY_MS) for _ in range(NARROW_LIMIT + NARROW_QUEUE)]
    wait_running(faulty, NARROW_LIMIT)
    taken_in(faulty)

    with tapped_client(faulty.base_url) as client:
        outcome = client.ask("slow-then-ok", stream=True)

    assert outcome.whole
    assert outcome.headers["x-genkan-model"] == BACKUP_MODEL
    assert outcome.headers["x-genkan-fallback"] == "server_is_overloaded"
    assert [read_all(connection)[0] for connection in inside] == [200] * len(inside)
    assert faulty.metrics().value("breaker_changes_total", deployment="slow@narrow") == 0
