"""A gateway with two workers and a Redis of its own in front of the fault upstream: for tests of what it counts."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import redis
import yaml
from e2e.crowd import Reply, get, race
from e2e.fault_gateway import Metrics
from e2e.live_server import LiveServer, wait_until
from e2e.worker_connections import connections
from faults.canonical import USAGE
from faults.process import RunningUpstream, running_upstream

GENKAN = Path(sys.executable).parent / "genkan"
WORKERS: Final = 2
#: What every healthy answer of the upstream takes.
PROMPT, COMPLETION = int(USAGE["prompt_tokens"]), int(USAGE["completion_tokens"])
TOKENS = PROMPT + COMPLETION
SOON_S: Final = 20.0  # a machine may be slow
#: For tests that want Redis to decide, however slow the machine is.
PATIENT: Final = {"connect_s": 5.0, "timeout_s": 10.0, "request_s": 20.0, "when_lost": {"limits": "closed"}}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, and the name by which the gateway speaks of it."""

    id: str
    secret: str


class CountingGateway:
    """It is ready, and has an admin's key: ``admin``, or one that it makes."""

    workers = WORKERS

    def __init__(
        self, server: LiveServer, upstream: RunningUpstream, environ: dict[str, str], admin: str | None = None
    ) -> None:
        self.server = server
        self.upstream = upstream
        self.admin_key = admin or new_admin_key(environ)
        self._http = httpx.Client(base_url=server.base_url, timeout=30, trust_env=False)
        self._http.headers["authorization"] = f"Bearer {self.admin_key}"
        self.redis = redis.Redis.from_url(self.redis_url, decode_responses=True)
        self._until_known(self.admin_key)

    def close(self) -> None:
        self.redis.close()
        self._http.close()

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def redis_url(self) -> str:
        return (self.server.folder / "data" / "redis.url").read_text()

    @property
    def redis_pid(self) -> int:
        """As long as it answers."""
        return int(self.redis.info("server")["process_id"])

    def keys(self, *wanted: dict[str, Any]) -> list[Key]:
        """New keys of tenant acme, unless they want another, which every worker knows."""
        made = [self.admin("POST", "/admin/keys", {"tenant": "acme", **one}) for one in wanted]
        self._until_known(made[-1]["key"])
        return [Key(one["id"], one["key"]) for one in made]

    def key(self, **wanted: Any) -> Key:
        return self.keys(wanted)[0]

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """What an administrator gets."""
        answer = self._http.request(method, path, json=body).raise_for_status()
        return answer.json()

    def race(self, requests: Sequence[bytes], seen: Counter[int] | None = None) -> list[Reply]:
        """The replies to requests that all arrive at once; ``seen`` counts the connections that each worker has."""
        counted = Counter[int]() if seen is None else seen
        return race(self.port, requests, before=lambda: counted.update(connections(self.server)))

    def race_at_both(self, requests: Sequence[bytes]) -> list[Reply]:
        """The replies of as many races as it takes until both workers had connections: the kernel may give all of one
        race to one."""
        seen, replies = Counter[int](), list[Reply]()
        while len(seen) < self.workers:
            assert len(replies) < 100 * len(requests), "one worker gets no connections"
            replies += self.race(requests, seen)
        return replies

    def ask(self, request: bytes) -> Reply:
        return race(self.port, [request])[0]

    def group(self, name: str) -> dict[str, Any]:
        """What ``/admin/limits`` shows of a key, a tenant or a deployment, by the beginning of its name."""
        groups = self.admin("GET", "/admin/limits")["groups"]
        return dict(next(group for group in groups if group["name"].startswith(name)))

    def limit(self, name: str, unit: str = "requests", kind: str | None = None) -> dict[str, Any]:
        """One limit of a group."""
        limits = self.group(name)["limits"]
        return dict(next(one for one in limits if one["unit"] == unit and kind in (None, one["kind"])))

    def budget(self, name: str) -> dict[str, Any]:
        """A group's only budget."""
        (budget,) = self.group(name)["budgets"]
        return dict(budget)

    def ledger(self, *, attempts: bool = False) -> list[dict[str, Any]]:
        """All rows, or all attempts."""
        lines: list[str] = []
        cursor = ""
        while True:
            query = f"?limit=10000&after={cursor}&attempts={json.dumps(attempts)}"
            answer = self._http.get(f"/admin/ledger{query}").raise_for_status()
            if answer.headers["x-genkan-rows"] == "0":
                return [json.loads(line) for line in lines]
            lines += answer.text.splitlines()
            cursor = answer.headers["x-genkan-cursor"]

    def metrics(self) -> Metrics:
        """What the gateway counts now, over all workers."""
        return Metrics(self._http.get("/metrics").raise_for_status().text)

    def wait_settled(self) -> None:
        """Until nothing is reserved any more."""
        wait_until(lambda: self.redis.hlen("genkan:reserved") == 0, SOON_S, "every request is settled")

    def _until_known(self, key: str) -> None:
        wait_until(lambda: self._is_known(key), SOON_S, "both workers know the key")

    def _is_known(self, key: str) -> bool:
        seen = Counter[int]()
        replies = self.race([get(key, "/v1/models")] * 24, seen)
        return len(seen) == self.workers and {reply.status for reply in replies} == {200}


def new_admin_key(environ: dict[str, str]) -> str:
    line = [str(GENKAN), "keys", "create", "--tenant", "ops", "--role", "admin"]
    made = subprocess.run(line, env={**os.environ, **environ}, capture_output=True, check=True, text=True)
    return made.stdout.strip()


@contextmanager
def running_counting_gateway(
    folder: Path, *, redis_settings: dict[str, Any] | None = None, **settings: Any
) -> Generator[CountingGateway, None, None]:
    """All of it, ready, with ``settings`` added to its configuration. Ends it cleanly, or fails."""
    with running_upstream() as upstream:
        path = folder / "genkan.yaml"
        base = {
            "redis": redis_settings or {},
            "server": {"workers": WORKERS},
            "keys": {"required": "always"},  # else a worker is open until it has read the first
            "upstreams": [there(upstream)],
        }
        path.write_text(yaml.safe_dump({**base, **settings}), encoding="utf-8")
        server = LiveServer(env={"GENKAN_CONFIG": str(path)})
        environ = {"GENKAN_CONFIG": str(path), "GENKAN__REDIS__DATA_DIR": str(server.folder / "data")}
        try:
            server.start()
            server.wait_ready()
            gateway = CountingGateway(server, upstream, environ)
            try:
                yield gateway
            finally:
                gateway.close()
            server.stop()
        finally:
            server.destroy()


def there(upstream: RunningUpstream) -> dict[str, Any]:
    """The fault upstream, with room for everybody."""
    return {
        "name": "there",
        "kind": "openai",
        "base_url": upstream.base_url,
        "connections": {"limit": 400, "queue": 400},
        "health": {"interval_s": 0.0},
    }


def model(name: str, name_there: str = "ok", **deployment: Any) -> dict[str, Any]:
    return {"name": name, "deployments": [{"upstream": "there", "model": name_there, **deployment}]}
