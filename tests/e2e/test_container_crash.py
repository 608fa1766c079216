"""Workers of every service die by ``kill -9`` in a container: others serve, and each is replaced.

On a machine, the embedder's does so here, and the gateway's in `test_drain.py`.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.live_server import LiveServer, wait_until

WORKERS = 2
BACK_S = 60.0  # a model loads, on a machine that may be slow
REPLACED_S = 15.0  # by itself one to two; before BentoML's own look at ten there is no other
CLIENTS, REQUESTS = 4, 60
CHAT = {"model": "default", "max_tokens": 2, "temperature": 1.0, "messages": [{"role": "user", "content": "Hi"}]}
TEXTS = {"model": "multilingual-e5-small", "input": "Hi"}
_NO_REUSE = httpx.Limits(max_keepalive_connections=0)

Ledger = list[dict[str, Any]]


class Crashing:
    """A server with an engine and an embedder, and who its workers are."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.base_url, timeout=30, trust_env=False, verify=False, limits=_NO_REUSE)

    def workers(self, service: str) -> set[int]:
        """Its processes that are alive."""
        return {pid for pid in self.server.processes() if _service_of(pid) == service}

    def kill_one(self, service: str) -> int:
        pid = min(self.workers(service))
        os.kill(pid, signal.SIGKILL)
        return pid

    def status(self, path: str, body: dict[str, Any]) -> int:
        try:
            return self.http.post(path, json=body).status_code
        except httpx.TransportError:
            return 0

    def chat(self) -> tuple[int, str]:
        """The status and the request's id; 0 where the connection broke."""
        try:
            reply = self.http.post("/v1/chat/completions", json=CHAT)
        except httpx.TransportError:
            return 0, ""
        return reply.status_code, reply.headers["x-request-id"]

    def ledger(self) -> Ledger:
        reply = self.http.get("/admin/ledger?limit=10000").raise_for_status()
        return [json.loads(line) for line in reply.text.splitlines()]


@pytest.fixture(scope="module")
def crashing() -> Generator[Crashing, None, None]:
    """BentoML tells a container by this variable, and replaces no worker in one."""
    environ = {"GENKAN__SERVER__WORKERS": str(WORKERS), "BENTOML_CONTAINERIZED": "true"}
    server = LiveServer(env=environ)
    try:
        server.start()
        server.wait_ready()
        crashing = Crashing(server)
        wait_until(lambda: len(crashing.workers("genkan")) == WORKERS, BACK_S, "all workers")
        yield crashing
        crashing.http.close()
        server.stop()
    finally:
        server.destroy()


def test_a_gateway_worker_is_replaced_and_nobody_is_billed_twice(crashing: Crashing) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(crashing.chat) for _ in range(REQUESTS)]
        wait_until(lambda: sum(one.done() for one in asked) >= CLIENTS, BACK_S, "some are answered")
        killed = crashing.kill_one("genkan")
        began_s = time.monotonic()
        answers = [one.result() for one in asked]
    wait_until(lambda: len(crashing.workers("genkan") - {killed}) == WORKERS, REPLACED_S, "another is there")
    assert time.monotonic() - began_s < BACK_S
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {0, 200}
    assert statuses[0] <= CLIENTS, "more than the killed one had"
    ids = [name for status, name in answers if status == 200]
    wait_until(lambda: set(ids) <= {row["id"] for row in crashing.ledger()}, BACK_S, "all are in the ledger")
    rows = Counter(row["id"] for row in crashing.ledger())
    assert set(rows.values()) == {1}
    assert len(rows) <= REQUESTS


def test_an_embedder_and_an_engine_that_died_are_back(crashing: Crashing) -> None:
    assert crashing.status("/v1/embeddings", TEXTS) == 200
    embedder = crashing.kill_one("genkan_embedder")
    assert crashing.chat()[0] == 200  # who asks for no embeddings does not notice
    engine = crashing.kill_one("genkan_engine")
    wait_until(lambda: not crashing.server.ready(), BACK_S, "it is seen")
    assert crashing.http.get("/livez").status_code == 200
    for service, killed in (("genkan_engine", engine), ("genkan_embedder", embedder)):
        wait_until(lambda s=service, k=killed: bool(crashing.workers(s) - {k}), REPLACED_S, "another is there")  # type: ignore[misc]
    wait_until(crashing.server.ready, BACK_S, "the model is loaded again")
    wait_until(lambda: crashing.chat()[0] == 200, BACK_S, "it answers")
    wait_until(lambda: crashing.status("/v1/embeddings", TEXTS) == 200, BACK_S, "it computes again")


def test_on_a_machine_one_is_replaced_likewise(server: LiveServer) -> None:
    crashing = Crashing(server)
    wait_until(lambda: bool(crashing.workers("genkan_embedder")), BACK_S, "it is there")
    killed = crashing.kill_one("genkan_embedder")
    wait_until(lambda: bool(crashing.workers("genkan_embedder") - {killed}), REPLACED_S, "another is there")
    wait_until(lambda: crashing.status("/v1/embeddings", TEXTS) == 200, BACK_S, "it computes again")
    crashing.http.close()


def _service_of(pid: int) -> str | None:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return line[line.index(b"--service-name") + 1].decode() if b"--service-name" in line else None
