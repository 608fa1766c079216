"""Is every request billed exactly once, whatever dies? ``make chaos``, or ``python -m e2e.chaos`` in ``tests``.

A real server with two gateway workers and its embedded Redis stands in front of the fault upstream. Clients ask, and
some leave; the upstream fails in many ways; workers are killed, Redis is stopped for seconds and killed once. Then the
ledger is compared with what the upstream wrote down itself.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import redis
from e2e.billed_load import MAX_TOKENS, ROUTE, Question, Told, ask_all, questions
from e2e.billing_audit import Audit, audit, differences
from e2e.live_server import LiveServer, wait_until
from faults.process import RunningUpstream, running_upstream

from genkan.gateway.estimate import most_prompt_tokens, size_of
from genkan.gateway.journal_records import contents_of
from genkan.gateway.segment import segments_in
from genkan.wire.chat import ChatRequest

WORKERS: Final = 2
#: Dollars for a million tokens, of the prompt and of the answer.
PRICES: Final = {"billed-first": (0.5, 1.5), "billed-second": (1.25, 10.0)}
NANO_USD: Final = {
    f"{model}@{model}": (round(input_ * 1000), round(output * 1000)) for model, (input_, output) in PRICES.items()
}
LEASE_S: Final = 3.0
REST_S: Final = 60.0
_AT_ONCE: Final = 32
_LOOK_AGAIN_S: Final = 0.05
_NEVER: Final = 10**9
_TIMEOUTS: Final = {"connect_s": 2.0, "first_token_s": 2.0, "between_tokens_s": 2.0, "total_s": 4.0}


@dataclass(slots=True)
class Havoc:
    """What was done to the server, and how long its workers took to come back."""

    kills_s: list[float] = field(default_factory=list)
    respawns_s: list[float] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    redis_kills: int = 0


@dataclass(slots=True)
class Result:
    """All of one run."""

    audit: Audit
    havoc: Havoc
    load_s: float
    rest_s: float
    #: What the budget says was spent; it covers what clients are billed and what lost requests had reserved.
    spent_nano_usd: int
    #: What one request reserves of it.
    reserved_nano_usd: int

    @property
    def held_nano_usd(self) -> int:
        """For requests that were lost: it stays reserved, as nobody knows what they took."""
        return self.audit.counts["lost"] * self.reserved_nano_usd

    @property
    def unspent_nano_usd(self) -> int:
        """What is missing in the budget's account."""
        return self.audit.billed_nano_usd + self.held_nano_usd - self.spent_nano_usd

    @property
    def agrees(self) -> bool:
        """Whether nothing was found, and the budget was charged with all of it.

        What a client reserved that left before its first attempt was made may have been given back, though its worker
        died before the ledger was told of it, and it stands there as lost.
        """
        not_begun = self.audit.counts["lost before the first attempt"]
        may_be_missing = [n * self.reserved_nano_usd for n in range(not_begun + 1)]
        return not self.audit.findings and self.unspent_nano_usd in may_be_missing


class Victim:
    """A server in front of the upstream, with what is needed to hurt it and to look into it."""

    def __init__(self, server: LiveServer, upstream: RunningUpstream, configuration: Path) -> None:
        self.server = server
        self.upstream = upstream
        #: For commands that are to find its ledger.
        self.environ = {
            "GENKAN_CONFIG": str(configuration),
            "GENKAN__REDIS__DATA_DIR": str(server.folder / "data"),
        }

    def workers(self) -> list[int]:
        """The gateway's workers, which the arbiter starts again when they die."""
        return [pid for pid in self.server.processes() if _program(pid) == "gateway"]

    def redis_pid(self) -> int:
        """That of the Redis which runs now, or will in a moment."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid in self.server.processes() if _program(pid) == "redis"]
            return len(found) == 1

        wait_until(is_there, REST_S, "Redis runs")
        return found[0]

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url((self.server.folder / "data" / "redis.url").read_text())

    def rows(self) -> list[dict[str, Any]]:
        """The whole ledger, by way of its endpoint."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        with httpx.Client(base_url=self.server.base_url, timeout=30, trust_env=False) as http:
            while True:
                reply = http.get("/admin/ledger", params={"after": cursor, "limit": 10_000}).raise_for_status()
                if reply.headers["x-genkan-rows"] == "0":
                    return rows
                rows += map(json.loads, reply.text.splitlines())
                cursor = reply.headers["x-genkan-cursor"]

    def in_journals(self) -> int:
        paths = segments_in(self.server.folder / "data" / "journal-embedded")
        return sum(len(contents_of(path.read_bytes()).unfinished) for path in paths)

    def left_behind(self) -> dict[str, int]:
        """What stands in Redis for requests under way, and in journals for requests that are not done."""
        with self.redis() as client:
            held = sum(client.zcard(key) for key in client.scan_iter("genkan:lease:*"))
            reserved = client.hlen("genkan:reserved") + client.zcard("genkan:leases")
        return {"leases": held, "reservations": reserved, "requests in journals": self.in_journals()}

    def spent_nano_usd(self) -> int:
        with self.redis() as client:
            return sum(int(client.get(key) or 0) for key in client.scan_iter("genkan:budget:*"))

    def is_at_rest(self) -> bool:
        try:
            return not any(self.left_behind().values())
        except (FileNotFoundError, redis.RedisError):
            return False  # a segment was deleted meanwhile, or Redis is not back yet


async def chaos(victim: Victim, count: int, dice: random.Random, *, kills: int, pauses: int) -> Result:
    """Ask ``count`` questions while all that happens, evenly spread; then wait until all is settled, and compare."""
    havoc = Havoc()
    doings = [_kill_worker] * kills + [_pause_redis] * pauses + [_kill_redis]
    dice.shuffle(doings)
    every, ended = count // (len(doings) + 1), 0
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as spoiling:

        def on_end() -> None:
            nonlocal ended
            ended += 1
            if ended % every == 0 and doings:
                spoiling.create_task(doings.pop()(victim, havoc, dice))

        told = await ask_all(victim.server.port, questions(count, dice), at_once=_AT_ONCE, on_end=on_end)
        load_s = time.monotonic() - began_s
    rest_s = await asyncio.to_thread(wait_until, victim.is_at_rest, REST_S, "the ledger is at rest")
    return _compared(victim, told, havoc, load_s, rest_s)


async def _kill_worker(victim: Victim, havoc: Havoc, dice: random.Random) -> None:
    while not (alive := victim.workers()):  # noqa: ASYNC110 (nothing tells of processes that are not ours)
        await asyncio.sleep(_LOOK_AGAIN_S)
    pid = dice.choice(alive)
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    havoc.kills_s.append(killed_s)
    while pid in (alive := victim.workers()) or len(alive) < WORKERS:  # noqa: ASYNC110 (likewise)
        await asyncio.sleep(_LOOK_AGAIN_S)
    havoc.respawns_s.append(time.monotonic() - killed_s)


async def _pause_redis(victim: Victim, havoc: Havoc, dice: random.Random) -> None:
    pid, seconds = victim.redis_pid(), dice.uniform(1.0, 3.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)
    havoc.pauses_s.append(seconds)


async def _kill_redis(victim: Victim, havoc: Havoc, dice: random.Random) -> None:
    del dice
    os.kill(victim.redis_pid(), signal.SIGKILL)
    havoc.redis_kills += 1


def _compared(victim: Victim, told: list[Told], havoc: Havoc, load_s: float, rest_s: float) -> Result:
    rows, served = victim.rows(), victim.upstream.attempts()
    compared = audit(rows, served, told, kills_s=havoc.kills_s, prices=NANO_USD)
    return Result(compared, havoc, load_s, rest_s, victim.spent_nano_usd(), _reserved_nano_usd())


def _reserved_nano_usd() -> int:
    """As many tokens as it may take, at the dearest price there is."""
    request = ChatRequest.from_object(Question(0, True, False, ("ok", "ok"), "stays", 0).body())
    prompt = most_prompt_tokens(size_of(request))
    return max(prompt * each + MAX_TOKENS * out for each, out in NANO_USD.values())


@contextmanager
def running_victim(folder: Path, **more: Any) -> Generator[Victim, None, None]:
    """A ready server and its upstream. ``more`` goes into its configuration."""
    with running_upstream() as upstream:
        path = folder / "chaos.json"
        path.write_text(json.dumps({**configuration(upstream.base_url), **more}))
        server = LiveServer(env={"GENKAN_CONFIG": str(path), "GENKAN__SERVER__WORKERS": str(WORKERS)})
        try:
            server.start()
            server.wait_ready()
            yield Victim(server, upstream, path)
        finally:
            server.destroy()


def configuration(base_url: str) -> dict[str, Any]:
    """Two deployments in a row, prices, a budget that is never spent, and breakers that never open."""
    calm = {"consecutive_failures": _NEVER, "alone_failures": _NEVER, "min_attempts": _NEVER}
    own = {"kind": "openai", "base_url": base_url, "timeouts": _TIMEOUTS, "health": {"interval_s": 0.0}}
    return {
        "upstreams": [{"name": name, **own, "breaker": calm} for name in PRICES],
        "models": [{"name": name, "deployments": [{"upstream": name, "model": "as-told"}]} for name in PRICES],
        "routes": [{"alias": ROUTE, "chain": [*PRICES], "total_s": 10.0}],
        "prices": {"models": [{"model": name, "input": each, "output": out} for name, (each, out) in PRICES.items()]},
        "limits": {"tenant": {"concurrent": 10_000, "requests": {"limit": 10**6}}, "lease_s": LEASE_S},
        "tenants": [{"name": "local", "budgets": [{"per": "total", "usd": 100_000}]}],
        "redis": {"when_lost": {"budgets": "open"}},
    }


def _program(pid: int) -> str:
    """What a process is: ``redis``, ``gateway``, or something else."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    if b"redis-server" in line:
        return "redis"
    return "gateway" if b"\0--service-name\0genkan\0" in line else "other"


def report(result: Result) -> str:
    """For people."""
    havoc, compared = result.havoc, result.audit
    lines = [
        f"load: {result.load_s:.1f} s; at rest {result.rest_s:.1f} s after it",
        f"workers killed: {len(havoc.kills_s)}, back within {max(havoc.respawns_s, default=0):.2f} s; Redis stopped "
        f"{len(havoc.pauses_s)} times, {sum(havoc.pauses_s):.1f} s in all, and killed {havoc.redis_kills} times",
        *(f"{what:<44}{n:>9,}" for what, n in sorted(compared.counts.items())),
        f"tokens here {compared.tokens[0]:,}, there {compared.tokens[1]:,}",
        f"cost here {compared.cost_nano_usd[0] / 1e9:.9f} $, there {compared.cost_nano_usd[1] / 1e9:.9f} $",
        f"billed {compared.billed_nano_usd / 1e9:.9f} $, held for the lost {result.held_nano_usd / 1e9:.9f} $, "
        f"spent of the budget {result.spent_nano_usd / 1e9:.9f} $",
        *differences(compared),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests, faults, kills; then the ledger against the upstream's own.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    chosen = parser.parse_args()
    sys.stdout.write(f"seed {chosen.seed}\n")
    with tempfile.TemporaryDirectory() as folder, running_victim(Path(folder)) as victim:
        kills, pauses = max(4, chosen.requests // 500), max(3, chosen.requests // 1250)
        dice = random.Random(chosen.seed)
        result = asyncio.run(chaos(victim, chosen.requests, dice, kills=kills, pauses=pauses))
    sys.stdout.write(f"{report(result)}\n")
    if not result.agrees:
        sys.exit(1)


if __name__ == "__main__":
    main()
