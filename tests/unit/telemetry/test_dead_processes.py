"""What workers that were killed leave behind is dropped by the next that starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genkan.telemetry.dead_processes import FOLDER_VARIABLE, forget_dead_processes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def ended_process() -> int:
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def test_live_gauges_of_a_dead_process_go_and_all_else_stays(folder: Path) -> None:
    dead, alive = ended_process(), os.getpid()
    names = [f"{kind}_{pid}.db" for pid in (dead, alive) for kind in ("gauge_livesum", "gauge_livemax", "counter")]
    for name in (*names, f"gauge_mostrecent_{dead}.db", "gauge_livesum_x.db"):
        (folder / name).touch()
    assert forget_dead_processes() == [dead]
    left = {path.name for path in folder.iterdir()}
    assert left == {
        f"gauge_livesum_{alive}.db", f"gauge_livemax_{alive}.db", f"counter_{alive}.db", f"counter_{dead}.db",
        f"gauge_mostrecent_{dead}.db", "gauge_livesum_x.db",
    }  # fmt: skip
    assert forget_dead_processes() == []


def test_with_one_process_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert forget_dead_processes() == []
