"""An outage of the primary: requests hardly notice, and return to it soon after it is well again.

Twenty times faster than in life: 3 s in place of 60, and a breaker that opens for 1.5 s in place of 30. The arithmetic
at full length is tested in tests/unit/gateway/test_breaker.py.
"""

import time

import pytest
from e2e.fault_gateway import BACKUP_MODEL, OPEN_S, FaultGateway
from e2e.live_server import wait_until
from e2e.tapped_client import TappedClient, tapped_client

OUTAGE_S = 3.0
MOST_DOOMED = 3
#: For a busy machine; a probe that comes late by it has still come by itself.
SLACK_S = 0.5
NOT_WELL = "outage-probed is not well"


def wait_until_well(faulty: FaultGateway, client: TappedClient, primary: str) -> None:
    """Until the gateway has seen that an earlier test's outage is over; the upstream forgets that it was asked."""
    wait_until(
        lambda: client.ask(f"{primary}-then-ok", stream=False).headers["x-genkan-model"] == primary,
        5,
        "the primary answers",
    )
    faulty.forget()


@pytest.mark.parametrize("primary", ["outage", "outage-probed"])
def test_an_outage_dooms_three_attempts_and_ends_within_a_probe_interval(faulty: FaultGateway, primary: str) -> None:
    deployment = f"{primary}@{primary}"
    with tapped_client(faulty.base_url) as client:
        wait_until_well(faulty, client, primary)
        before = faulty.metrics()
        faulty.primary.down(seconds=OUTAGE_S)
        down_at_s = time.monotonic()
        answered_by: list[str] = []
        # One at a time, as often as they go, until the primary is back.
        while not answered_by or answered_by[-1] == BACKUP_MODEL:
            assert time.monotonic() - down_at_s < OUTAGE_S + OPEN_S + SLACK_S, "the primary was not asked again"
            outcome = client.ask(f"{primary}-then-ok", stream=len(answered_by) % 2 == 0)
            assert outcome.whole
            assert outcome.attempts <= 2
            answered_by.append(outcome.headers["x-genkan-model"])
        back_after_s = time.monotonic() - down_at_s

        assert back_after_s >= OUTAGE_S - SLACK_S
        assert all(client.ask(f"{primary}-then-ok", stream=False).model == "ok" for _ in range(20))
        assert len(answered_by) > 20

    after = faulty.metrics()
    doomed = [attempt for attempt in faulty.primary.attempts() if attempt["outcome"] == "down"]
    # The first of them went over an idle connection, which looked dead, and was sent again.
    assert 1 <= len(doomed) <= MOST_DOOMED + 1
    failed = after.value("attempts_total", deployment=deployment, outcome="upstream_invalid_response") - before.value(
        "attempts_total", deployment=deployment, outcome="upstream_invalid_response"
    )
    assert 1 <= failed <= MOST_DOOMED


def test_a_health_probe_alone_finds_an_outage_and_its_end(faulty: FaultGateway) -> None:
    """No request is doomed by an outage that the probes have seen, and none waits for its breaker afterwards."""
    with tapped_client(faulty.base_url) as client:
        wait_until_well(faulty, client, "outage-probed")
        said = faulty.server.log.count(NOT_WELL)
        faulty.primary.down()
        wait_until(lambda: faulty.server.log.count(NOT_WELL) > said, 5, "the probes have failed")
        outcome = client.ask("outage-probed-then-ok", stream=True)
        assert outcome.whole
        assert (outcome.attempts, outcome.headers["x-genkan-fallback"]) == (1, "unavailable")
        assert faulty.primary.attempts() == []

        faulty.primary.up()
        wait_until(
            lambda: client.ask("outage-probed-then-ok", stream=False).headers["x-genkan-model"] == "outage-probed",
            5,
            "the primary answers again",
        )
        assert [attempt["outcome"] for attempt in faulty.primary.attempts()] == ["answered"]
