"""Clients that ask and never read: they hold neither an upstream nor the server's end."""

import json
import os
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from e2e.live_server import LiveServer, wait_until
from faults.process import RunningUpstream, running_upstream

READERS = 3
SEND_TIMEOUT_S = 1.0
FREED_WITHIN_S = 3.0
ENDED_WITHIN_S = 5.0
CONFIGURATION = {
    "models": [{"name": "m", "deployments": [{"upstream": "firehose", "model": "endless-tokens"}]}],
}


@pytest.fixture
def firehose() -> Generator[RunningUpstream, None, None]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(firehose: RunningUpstream, tmp_path: Path) -> Generator[LiveServer, None, None]:
    upstream = {"name": "firehose", "kind": "openai", "base_url": firehose.base_url, "health": {"interval_s": 0.0}}
    configuration = tmp_path / "firehose.yaml"
    configuration.write_text(yaml.safe_dump({"upstreams": [upstream], **CONFIGURATION}))
    limit = {"GENKAN__SERVER__SEND_TIMEOUT_S": str(SEND_TIMEOUT_S)}
    server = LiveServer(env={"GENKAN_CONFIG": str(configuration), **limit})
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.destroy()


def asked(server: LiveServer) -> socket.socket:
    """A connection on which a stream was asked for, and from which nothing is read."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=15)
    connection.sendall(head.encode() + body)
    return connection


def running(upstream: RunningUpstream) -> int:
    return [attempt["outcome"] for attempt in upstream.attempts()].count("running")


def test_an_upstream_is_free_again_and_the_log_tells_why(server: LiveServer, firehose: RunningUpstream) -> None:
    with ExitStack() as readers:
        for _ in range(READERS):
            readers.enter_context(closing(asked(server)))
        wait_until(lambda: len(firehose.attempts()) == READERS, 5, "all have reached the upstream")
        wait_until(lambda: running(firehose) == 0, FREED_WITHIN_S, "the upstream is free again")
        assert {attempt["outcome"] for attempt in firehose.attempts()} == {"client gone"}
    server.stop()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith('{"time"')]
    ended = [line for line in lines if line.get("message") == "POST /v1/chat/completions"]
    assert [line["client_gone"] for line in ended] == READERS * [True]


def test_a_server_that_is_told_to_end_does_not_wait_for_who_does_not_read(
    server: LiveServer, firehose: RunningUpstream
) -> None:
    with closing(asked(server)):
        wait_until(lambda: running(firehose) == 1, 5, "it has reached the upstream")
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: server.process.poll() is not None, ENDED_WITHIN_S, "the server has ended")
    wait_until(lambda: not server.processes(), ENDED_WITHIN_S, "all workers are gone")
    server.assert_clean_log()
