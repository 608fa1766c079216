"""A client that goes away frees the engine at once."""

import itertools
import json
import socket
import struct
from collections.abc import Generator
from typing import Any

import httpx
import openai
import pytest
from e2e.live_server import LiveServer, wait_until

FREED_WITHIN_S = 1.0
#: The model ends such texts by itself only after hundreds of tokens.
LONG: dict[str, Any] = {
    "model": "default",
    "prompt": "1, 2, 3, 4, 5,",
    "temperature": 0,
    "max_tokens": 4000,
    "genkan": {"cache": "no-cache"},  # each its own sequence
}
#: More than the engine makes in the time that it has to notice, far less than it was asked for.
FEW_TOKENS = 200


@pytest.fixture(autouse=True)
def engine_is_idle_and_works_afterwards(server: LiveServer) -> Generator[None, None, None]:
    wait_idle(server, 5)
    before = server.generated_tokens()
    yield
    wait_idle(server, FREED_WITHIN_S)
    spent = server.generated_tokens() - before
    assert spent < FEW_TOKENS

    body = {"model": "default", "prompt": "Hi", "max_tokens": 2}
    reply = httpx.post(f"{server.base_url}/v1/completions", json=body, trust_env=False).raise_for_status().json()
    wait_idle(server, FREED_WITHIN_S)
    # Nothing was generated beside it.
    assert server.generated_tokens() - before - spent == reply["usage"]["completion_tokens"]


def wait_idle(server: LiveServer, limit_s: float) -> None:
    wait_until(
        lambda: server.running_sequences() == 0 and server.waiting_sequences() == 0, limit_s, "the engine is idle"
    )


def wait_running(server: LiveServer) -> None:
    wait_until(lambda: server.running_sequences() == 1, 10, "the engine runs the request")


def raw_request(server: LiveServer, path: str, body: dict[str, Any]) -> socket.socket:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(head.encode() + data)
    return connection


def reset(connection: socket.socket) -> None:
    """Close with RST, as a client that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_events(connection: socket.socket, count: int) -> None:
    received = b""
    while received.count(b"data: ") < count:
        piece = connection.recv(65536)
        assert piece, f"the stream ended after {received!r}"
        received += piece
    assert received.startswith(b"HTTP/1.1 200")


def test_a_stream_closed_by_the_sdk_stops_the_engine(server: LiveServer, sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "Write a very long story about a fox."}],
        max_tokens=4000,
        temperature=0,
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content for chunk in itertools.islice(stream, 4)]
    assert len([piece for piece in pieces if piece]) == 3
    wait_running(server)
    stream.close()
    wait_idle(server, FREED_WITHIN_S)


@pytest.mark.parametrize("end", [reset, socket.socket.close], ids=["reset", "closed"])
def test_a_broken_connection_in_a_stream_stops_the_engine(server: LiveServer, end: Any) -> None:
    connection = raw_request(server, "/v1/completions", {**LONG, "stream": True})
    read_events(connection, 3)
    wait_running(server)
    end(connection)
    wait_idle(server, FREED_WITHIN_S)


@pytest.mark.parametrize("end", [reset, socket.socket.close], ids=["reset", "closed"])
def test_a_client_that_leaves_before_its_whole_answer_stops_the_engine(server: LiveServer, end: Any) -> None:
    connection = raw_request(server, "/v1/completions", LONG)
    wait_running(server)
    end(connection)
    wait_idle(server, FREED_WITHIN_S)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "collected"])
def test_a_client_of_the_native_call_that_leaves_stops_the_engine(server: LiveServer, stream: bool) -> None:
    messages = [{"role": "user", "content": "Write a very long story about a fox."}]
    connection = raw_request(server, "/call", {"messages": messages, "max_tokens": 4000, "stream": stream})
    wait_running(server)
    reset(connection)
    wait_idle(server, FREED_WITHIN_S)


def test_a_client_that_leaves_ends_its_own_sequence_and_no_other(server: LiveServer) -> None:
    first, second = (raw_request(server, "/v1/completions", {**LONG, "stream": True}) for _ in range(2))
    wait_until(lambda: server.running_sequences() == 2, 10, "both run")
    reset(second)
    wait_until(lambda: server.running_sequences() == 1, FREED_WITHIN_S, "one runs")
    read_events(first, 3)
    reset(first)
    wait_idle(server, FREED_WITHIN_S)


def test_a_client_that_leaves_during_a_long_prompt_stops_the_engine(server: LiveServer) -> None:
    connection = raw_request(server, "/v1/completions", {"model": "default", "prompt": [1000] * 8000, "max_tokens": 1})
    wait_running(server)
    reset(connection)
    # It looks between two chunks of a prompt, and a chunk of 256 tokens takes a while on a small machine.
    wait_idle(server, 5 * FREED_WITHIN_S)


def test_a_client_that_only_closes_its_sending_side_frees_the_engine_as_well(server: LiveServer) -> None:
    connection = raw_request(server, "/v1/completions", {**LONG, "stream": True})
    read_events(connection, 3)
    connection.shutdown(socket.SHUT_WR)
    wait_idle(server, FREED_WITHIN_S)
    connection.close()
