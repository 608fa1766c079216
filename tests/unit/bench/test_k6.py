"""Which scenarios there are, and what k6 is told."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from genkan.bench import k6
from genkan.bench.k6_servers import SCENARIOS
from genkan.bench.server_process import ROOT

DOCS = (ROOT / "docs" / "load-tests.md").read_text(encoding="utf-8")
SCRIPTS = sorted((ROOT / "k6").glob("*.js"))


def test_every_script_is_a_scenario_and_the_docs_have_it() -> None:
    assert {script.stem for script in SCRIPTS} == set(SCENARIOS)
    assert all(f"| `{scenario}` |" in DOCS for scenario in SCENARIOS)


def test_the_docs_have_every_setting_that_a_script_reads() -> None:
    read = {name for script in (ROOT / "k6").rglob("*.js") for name in settings(script)}
    assert {"URL", "SCALE", "API_KEY", "SPIKE_MODEL"} <= read
    assert [name for name in sorted(read - {"OUT", "ECHOES"}) if f"`{name}`" not in DOCS] == []


def settings(script: Path) -> set[str]:
    pieces = script.read_text(encoding="utf-8").split("__ENV.")[1:]
    return {
        piece[: next(at for at, letter in enumerate(piece) if not (letter.isupper() or letter == "_"))]
        for piece in pieces
    }


@pytest.mark.parametrize("status", [0, 99])
def test_its_exit_status_is_k6_s_and_where_the_summaries_go_is_told(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "k6"
    program.write_text(f'#!/bin/sh\necho "$OUT $SCALE $*"\nexit {status}\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(k6, "K6", program)
    assert k6.run("steady", {"SCALE": "0.5"}, tmp_path / "out") == status
    out, scale, command, *line = capfd.readouterr().out.split()
    assert (Path(out), scale, command) == (tmp_path / "out", "0.5", "run")
    assert "--no-usage-report" in line
    assert str(ROOT / "k6" / "steady.js") in line


class Hangs:
    """A k6 that waits for its users, and is interrupted twice meanwhile."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def __call__(self, *_: Any, **__: Any) -> "Hangs":
        return self

    def __enter__(self) -> "Hangs":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        raise KeyboardInterrupt

    def send_signal(self, number: int) -> None:
        self.got.append(number)

    def kill(self) -> None:
        self.got.append(signal.SIGKILL)


def test_a_second_interruption_leaves_no_k6_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = Hangs()
    monkeypatch.setattr(subprocess, "Popen", hangs)
    with pytest.raises(KeyboardInterrupt):
        k6.run("steady", {}, tmp_path)
    assert hangs.got == [signal.SIGINT, signal.SIGKILL]
