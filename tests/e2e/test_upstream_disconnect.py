"""A client that goes away frees the upstream at once, whatever it was waiting for."""

import socket
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import openai
import pytest
from e2e.fault_gateway import NARROW_LIMIT, NARROW_QUEUE, FaultGateway
from e2e.live_server import wait_until
from e2e.raw_question import read_all, read_events, reset, send, taken_in
from e2e.tapped_client import QUESTION

FREED_WITHIN_S = 1.0
#: An answer of 6 s, which nobody here waits for.
LONG = {"x_delay_ms": 100}
SHORT = {"x_delay_ms": 15}

Leave = Callable[[socket.socket], None]
leaves = pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closed", "reset"])


def wait_running(gateway: FaultGateway, count: int) -> None:
    wait_until(lambda: len(gateway.primary.attempts("slow-ok")) == count, 5, f"{count} have reached the upstream")


def assert_freed(gateway: FaultGateway, left_at_s: float) -> None:
    """The one attempt ended soon after the client had left, and long before its answer."""
    wait_until(lambda: attempt(gateway)["outcome"] == "client gone", FREED_WITHIN_S, "the upstream is freed")
    assert attempt(gateway)["ended_at_s"] - left_at_s < FREED_WITHIN_S
    assert attempt(gateway)["tokens"] < 60


def attempt(gateway: FaultGateway) -> dict[str, Any]:
    (only,) = gateway.primary.attempts("slow-ok")
    return only


def client_gone(gateway: FaultGateway) -> float:
    return gateway.metrics().value("attempts_total", deployment="slow@narrow", outcome="client_gone")


@leaves
def test_a_client_that_leaves_a_stream_cancels_the_upstream(faulty: FaultGateway, leave: Leave) -> None:
    before = client_gone(faulty)
    connection = send(faulty, "slow", stream=True, **LONG)
    read_events(connection, 3)
    left_at_s = time.monotonic()
    leave(connection)
    assert_freed(faulty, left_at_s)
    assert client_gone(faulty) == before + 1


@leaves
def test_a_client_that_leaves_before_its_whole_answer_cancels_the_upstream(faulty: FaultGateway, leave: Leave) -> None:
    before = client_gone(faulty)
    connection = send(faulty, "slow", **LONG)
    wait_running(faulty, 1)
    left_at_s = time.monotonic()
    leave(connection)
    assert_freed(faulty, left_at_s)
    assert client_gone(faulty) == before + 1


def test_a_stream_closed_by_the_sdk_cancels_the_upstream(faulty: FaultGateway) -> None:
    with openai.OpenAI(base_url=f"{faulty.base_url}/v1", api_key="unused", max_retries=0, timeout=10) as sdk:
        chunks = sdk.chat.completions.create(model="slow", messages=QUESTION, stream=True, extra_body=LONG)
        assert len(list(islice(chunks, 3))) == 3
        left_at_s = time.monotonic()
        chunks.close()
        assert_freed(faulty, left_at_s)


@leaves
def test_a_client_that_leaves_the_queue_leaves_its_place_to_others(faulty: FaultGateway, leave: Leave) -> None:
    before = client_gone(faulty)
    inside = [send(faulty, "slow", **SHORT) for _ in range(NARROW_LIMIT)]
    wait_running(faulty, NARROW_LIMIT)
    leaver = send(faulty, "slow", x_leaves=True)
    taken_in(faulty)
    leave(leaver)
    wait_until(lambda: client_gone(faulty) == before + 1, FREED_WITHIN_S, "the one in the queue has left it")
    inside += [send(faulty, "slow", **SHORT) for _ in range(NARROW_QUEUE)]

    assert [read_all(connection)[0] for connection in inside] == [200] * len(inside)
    assert len(faulty.primary.attempts()) == len(inside)
    assert not any("x_leaves" in attempt["body"] for attempt in faulty.primary.attempts())
