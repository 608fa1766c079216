"""Every request is in the ledger exactly once, and as the upstream served it, whatever dies in between."""

import asyncio
import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import httpx
import pytest
from e2e.billed_load import Question, ask_all
from e2e.chaos import NANO_USD, REST_S, Victim, chaos, report, running_victim
from e2e.live_server import wait_until

GENKAN = Path(sys.executable).parent / "genkan"
CALM = 60
#: After which nothing of an answer was delivered, so that both sides know of no usage.
REFUSALS = ("500-for-ever", "503-for-ever", "502-html", "reset-before-headers")


@pytest.fixture
def victim(tmp_path: Path) -> Generator[Victim, None, None]:
    with running_victim(tmp_path) as victim:
        yield victim


def test_of_a_thousand_requests_each_is_billed_once_whatever_dies(victim: Victim) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    result = asyncio.run(chaos(victim, 1000, random.Random(seed), kills=3, pauses=3))

    said = report(result)
    print(said)  # noqa: T201
    assert result.agrees, said
    assert result.audit.tokens[0] == result.audit.tokens[1] > 0
    assert result.audit.cost_nano_usd[0] == result.audit.cost_nano_usd[1] > 0
    assert (len(result.havoc.kills_s), len(result.havoc.pauses_s), result.havoc.redis_kills) == (3, 3, 1)
    # Were most of them lost, this would show little.
    assert result.audit.counts["attempts that agree"] > 500
    assert 0 <= result.audit.counts["lost"] < 200
    victim.server.assert_clean_log()


def test_the_upstreams_own_export_reconciles_and_an_altered_one_does_not(victim: Victim, tmp_path: Path) -> None:
    dice = random.Random(7)
    asked = [_calm(number, dice) for number in range(CALM)]
    told = asyncio.run(ask_all(victim.server.port, asked, at_once=8, on_end=lambda: None))
    assert {one.end for one in told} <= {"whole", "error"}
    wait_until(victim.is_at_rest, REST_S, "the ledger is at rest")
    listed = _attempts(victim)
    assert len(listed) == len(set(listed))
    assert set(listed) == {attempt["headers"]["x-client-request-id"] for attempt in victim.upstream.attempts()}
    lines = [["request_id", "prompt_tokens", "completion_tokens", "cost_usd"], *_export(victim)]
    assert len(lines) > CALM / 2

    assert _reconcile(victim, tmp_path / "export.csv", lines) == 0
    lines[7][2] = str(int(lines[7][2]) + 1)
    assert _reconcile(victim, tmp_path / "altered.csv", lines) == 1


def _calm(number: int, dice: random.Random) -> Question:
    script = (dice.choice(("ok", *REFUSALS)), "ok")
    return Question(number, dice.random() < 0.5, False, script, leaving="stays", patience=0)


def _attempts(victim: Victim) -> list[str]:
    """Their ids, as the ledger's endpoint tells them."""
    asked = {"attempts": "true", "limit": "10000"}
    reply = httpx.get(f"{victim.server.base_url}/admin/ledger", params=asked, timeout=30, trust_env=False)
    return [json.loads(line)["id"] for line in reply.raise_for_status().text.splitlines()]


def _export(victim: Victim) -> Generator[list[str], None, None]:
    """What the upstream would send a bill for. Both deployments are there, so their prices have to be told apart."""
    first, second = NANO_USD.values()
    for attempt in victim.upstream.attempts():
        if attempt["usage"] is None:
            continue
        name = attempt["headers"]["x-client-request-id"]
        price = first if name.endswith(".1") else second
        cost = sum(tokens * each for tokens, each in zip(attempt["usage"], price, strict=True))
        yield [name, *map(str, attempt["usage"]), f"{cost / 1e9:.9f}"]


def _reconcile(victim: Victim, path: Path, lines: Sequence[Sequence[str]]) -> int:
    """The command's exit status."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    command = [str(GENKAN), "ledger", "reconcile", str(path)]
    environ = {**os.environ, **victim.environ}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    print(ended.stdout, ended.stderr)  # noqa: T201 - shown when it fails
    return ended.returncode
