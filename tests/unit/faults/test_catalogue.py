"""The table names every fault once and says what it does."""

import re
from typing import Any

import pytest
from faults.catalogue import FAULTS, HARMLESS, STREAM_ONLY, WHOLE_ONLY
from faults.outages import Outages
from faults.raw_client import ask
from faults.upstream import FaultUpstream


def test_names_and_words() -> None:
    assert {"ok", "cut-after-40", "429-retry-after-date", "down-for-60", "gzip-bomb", "closes-on-reuse"} < set(FAULTS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in FAULTS)
    assert all(what.endswith(".") for what in FAULTS.values())


def test_faces() -> None:
    assert STREAM_ONLY.isdisjoint(WHOLE_ONLY)
    assert FAULTS.keys() > STREAM_ONLY | WHOLE_ONLY | HARMLESS


@pytest.mark.anyio
@pytest.mark.parametrize("model", FAULTS)
async def test_whatever_a_fault_does_the_next_call_is_healthy(upstream: FaultUpstream, model: str) -> None:
    brief: dict[str, Any] = {"x_delay_ms": 0.1, "x_silence_s": 0.01, "x_ping_ms": 1000}
    for stream in (False, True):
        await ask(upstream.port, model, stream=stream, quiet_s=0.05, enough_bytes=100_000, **brief)
        assert (await ask(upstream.port, "ok", stream=stream)).healthy
    assert len(upstream.ledger.attempts) == 4


@pytest.mark.parametrize("told", ["", "a", "b"])
def test_the_end_of_an_outage_is_its_own_or_everything(told: str) -> None:
    outages = Outages(lambda: 0.0)
    outages.begin("a", mode="503")
    outages.begin("b", mode="503")
    outages.end(told)
    assert outages.mode("a") == (None if told in ("", "a") else "503")
    assert outages.mode("b") == (None if told in ("", "b") else "503")
    assert outages.mode("c") is None
