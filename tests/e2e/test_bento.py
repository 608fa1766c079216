"""The Bento builds, and serves from its store with the tree it was built from gone."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from e2e.live_server import BENTOML, ROOT, running_server

MARK = "0.0.0+bento"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME with a Bento built from a copy of the tree whose version is ``MARK``; the copy is gone."""
    tree, home = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("home")
    for name in ("service.py", "bentofile.yaml", "README.md"):
        shutil.copy(ROOT / name, tree)
    for name in ("src", "configs", "requirements"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    package = tree / "src" / "genkan" / "__init__.py"
    package.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{MARK}"', package.read_text()))
    subprocess.run(
        [BENTOML, "build"],
        cwd=tree,
        env={"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        timeout=100,
    )
    shutil.rmtree(tree)
    return home


def bento_path(store: Path) -> Path:
    [path] = [folder for folder in (store / "bentos" / "genkan").iterdir() if folder.is_dir()]
    return path


def test_holds_the_package_the_service_and_the_configurations(store: Path) -> None:
    files = {str(path.relative_to(bento_path(store) / "src")) for path in (bento_path(store) / "src").rglob("*")}
    assert {"service.py", "genkan/app.py", "genkan/py.typed", "configs/local.yaml"} <= files
    assert not any("__pycache__" in name or name.startswith((".venv", "tests")) for name in files)


def test_pins_every_package_with_hashes(store: Path) -> None:
    requirements = (bento_path(store) / "env" / "python" / "requirements.txt").read_text()
    pinned = set(re.findall(r"^(\S+)==", requirements, flags=re.MULTILINE))
    hashed = set(re.findall(r"^(\S+)==\S+ \\\n    --hash=sha256:", requirements, flags=re.MULTILINE))
    assert {"bentoml", "torch", "openai", "prometheus-client", "redis", "backoff"} <= pinned
    assert pinned == hashed


def test_declares_the_native_api(store: Path) -> None:
    schema = yaml.safe_load((bento_path(store) / "apis" / "openapi.yaml").read_text())
    assert "/call" in schema["paths"]


def test_serves_its_own_code_with_the_tree_gone(store: Path, tmp_path: Path) -> None:
    with running_server(bento="genkan:latest", store=store, cwd=tmp_path) as server:
        assert httpx.get(f"{server.base_url}/").json()["version"] == MARK
        question = {"role": "user", "content": "What is the capital of France?"}
        reply = httpx.post(
            f"{server.base_url}/v1/chat/completions",
            json={"model": "default", "temperature": 0, "messages": [question]},
            timeout=60,
        )
        texts = {"model": "multilingual-e5-small", "input": "hi"}
        embeddings = httpx.post(f"{server.base_url}/v1/embeddings", json=texts, timeout=60)
    assert "Paris" in reply.json()["choices"][0]["message"]["content"]
    assert len(embeddings.json()["data"][0]["embedding"]) == 384
