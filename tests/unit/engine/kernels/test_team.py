"""The compute threads by themselves, with some of them held up: ``late_threads.c`` says what is checked."""

import shutil
import subprocess
from pathlib import Path

import pytest

from genkan.engine import kernels

SOURCES = Path(kernels.__file__).parent
ROUNDS = 4000  # a team that lets late threads into the next round fails within some hundreds


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here (cc)")
    program = tmp_path_factory.mktemp("team") / "late_threads"
    sources = [Path(__file__).parent / "late_threads.c", SOURCES / "team.c"]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"]
    subprocess.run([compiler, *flags, "-o", program, *sources, "-lpthread"], check=True, timeout=60)
    return program


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_every_tile_is_done_once_and_in_its_phase(driver: Path, threads: int) -> None:
    rounds = ROUNDS if threads < 8 else ROUNDS // 4
    done = subprocess.run([driver, str(threads), str(rounds)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
