"""``genkan bench`` against a running genkan, whose upstream's events are a known time apart."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from e2e.live_server import LiveServer, free_port, running_server, wait_until

from genkan.bench.chat_traffic import MODEL
from genkan.bench.server_process import Command, ServerProcess, running
from genkan.cli import main

GENKAN = Path(sys.executable).with_name("genkan")
ANSWER_S, EVENT_S = 0.05, 0.01
FIRST_TEXT, LAST_EVENT = 2, 19  # events after the head, each EVENT_S after the one before


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str], None, None]:
    """What the gateway and the commands beside it run with; the upstream is there."""
    line = [sys.executable, "-m", "genkan.bench.slow_upstream", "{port}", str(ANSWER_S), str(EVENT_S)]
    with running(Command("upstream", line), frozenset(os.sched_getaffinity(0))) as upstream:
        upstream.wait_until_answered(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        folder = tmp_path_factory.mktemp("bench")
        yield {"GENKAN_CONFIG": str(_config(folder, upstream)), "GENKAN__REDIS__DATA_DIR": str(folder / "data")}


def _config(folder: Path, upstream: ServerProcess) -> Path:
    path = folder / "genkan.yaml"
    settings = {
        "upstreams": [{"name": "slow", "kind": "openai", "base_url": f"http://127.0.0.1:{upstream.port}/v1"}],
        "models": [{"name": MODEL, "upstream": "slow"}],
        "routes": [{"alias": "default", "chain": [MODEL]}],
        "prices": {"models": [{"model": MODEL, "input": 2, "output": 8}]},
        "redis": {"timeout_s": 5, "request_s": 5},  # hits are counted, also on a busy machine
    }
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gateway(environ: dict[str, str]) -> Generator[LiveServer, None, None]:
    with running_server(environ) as server:
        yield server


def bench(url: str, *arguments: str, **environ: str) -> Result:
    """In this process, whose imports it need not repeat."""
    environment = {**dict.fromkeys(name for name in os.environ if name.startswith("GENKAN_")), **environ}
    return CliRunner().invoke(main, ["bench", url, *arguments], env=environment, catch_exceptions=False)


def measured(url: str, *arguments: str) -> dict[str, Any]:
    ended = bench(url, *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def test_times_of_tokens_are_those_of_the_upstream(gateway: LiveServer, tmp_path: Path) -> None:
    result = measured(
        gateway.base_url,
        *("--rate", "40", "--requests", "40", "--languages", "en,vi,ko", "--out", str(tmp_path / "out")),
        *("--slo-ttft-ms", "5000", "--slo-itl-ms", "1"),
    )
    found = result["arms"]["all"]
    assert (found["requests"], found["answered"], result["error_rate"]) == (40, 40, 0)
    # Never sooner than the upstream sends, but for its timers' grain; not much later even where others take the cores.
    for name, expected_ms in (("ttft", 1e3 * FIRST_TEXT * EVENT_S), ("e2e", 1e3 * LAST_EVENT * EVENT_S)):
        assert found[name]["p50_ms"] > 0.9 * expected_ms
        assert found[name]["p50_ms"] < expected_ms + 500
    for gap_ms in (found["tpot"]["p50_ms"], found["itl"]["mean_ms"]):
        assert 0.5e3 * EVENT_S < gap_ms < 5e3 * EVENT_S  # a first token that came late shortens them
    assert found["goodput"] == {"share": 0.0, "rps": 0.0, "ttft_ms": 5000.0, "itl_ms": 1.0}  # no gap is that short
    assert found["tokens"] | {"prompt": 61 * 40, "completion": 16 * 40} == found["tokens"]
    assert found["cost"]["usd"] == pytest.approx(40 * (61 * 2 + 16 * 8) / 1e6, rel=1e-3)
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == result
    for name in ("report.md", "report.html"):
        assert "ttft p50, ms" in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_cached_against_uncached_in_one_run(gateway: LiveServer) -> None:
    arms = measured(gateway.base_url, "--cached", "--requests", "20", "--questions", "1")["arms"]
    cached, uncached = arms["cached"], arms["uncached"]
    assert (cached["requests"], uncached["requests"]) == (10, 10)
    assert cached["cache"]["states"] == {"miss": 1, "hit-exact": 9}
    assert uncached["cache"]["states"] == {"bypass": 10}
    assert cached["tokens"]["saved_share"] == pytest.approx(0.9)
    assert cached["cost"]["usd"] == pytest.approx(0.1 * uncached["cost"]["usd"], rel=1e-3)
    assert cached["e2e"]["p50_ms"] < uncached["e2e"]["p50_ms"]


def test_the_native_path_and_whole_answers(gateway: LiveServer) -> None:
    found = measured(gateway.base_url, "--path", "/call", "--no-stream", "--requests", "6", "--concurrency", "3")
    arm = found["arms"]["all"]
    assert (arm["answered"], arm["ttft"], arm["itl"]) == (6, None, None)
    assert arm["e2e"]["p50_ms"] > 0.9e3 * ANSWER_S
    assert arm["cost"]["unpriced"] == 0


def test_nobody_there_and_a_wrong_path_are_told(gateway: LiveServer) -> None:
    nobody = bench(f"http://127.0.0.1:{free_port()}")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "cannot connect: connection refused\nDoes a server listen there?" in nobody.stderr
    wrong = bench(f"{gateway.base_url}/v2", "--model", "default")
    assert wrong.exit_code == 1
    assert "status 404 unknown_url" in wrong.stderr
    assert "Is the path right?" in wrong.stderr


def test_a_model_that_is_not_there_is_told(gateway: LiveServer) -> None:
    ended = bench(gateway.base_url, "--model", "gpt-none")
    assert ended.exit_code == 1
    assert re.search(r"status 404 model_not_found: .*gpt-none", ended.stderr)


def test_a_wrong_key_is_told_and_not_shown(gateway: LiveServer, environ: dict[str, str]) -> None:
    """The last one of these: from here on the gateway wants keys."""
    line = [str(GENKAN), "keys", "create", "--tenant", "load"]
    made = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **environ})
    wait_until(lambda: httpx.get(f"{gateway.base_url}/v1/models").status_code == 401, 10, "a key is wanted")
    wrong = bench(gateway.base_url, GENKAN_API_KEY="sk-this-is-wrong")
    assert wrong.exit_code == 1
    assert "status 401" in wrong.stderr
    assert "GENKAN_API_KEY is set, and not accepted" in wrong.stderr
    assert "sk-this-is-wrong" not in wrong.stderr + wrong.stdout
    right = bench(gateway.base_url, "--requests", "2", GENKAN_API_KEY=made.stdout.strip())
    assert right.exit_code == 0, right.stderr
