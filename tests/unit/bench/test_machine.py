"""What figures are said to have been measured on."""

import os
import re
import subprocess
from pathlib import Path

from genkan.bench.machine import commit, machine


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    line = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True, env=environ, timeout=30).stdout.strip()


def test_it_says_all_that_a_reader_needs() -> None:
    told = machine()
    assert re.fullmatch(r".+, \d+ cores", told["cpu"])
    assert re.fullmatch(r"[\d.]+ GiB", told["memory"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["date"])
    assert "bentoml " in told["packages"]
    assert all(told.values())


def test_a_commit_with_changes_is_marked_but_not_for_what_a_report_writes(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("code", "docs/page"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first", "--no-verify")
    name = git(tmp_path, "rev-parse", "--short", "HEAD")
    (tmp_path / "docs/page").write_text("two")
    assert commit(tmp_path) == name
    (tmp_path / "code").write_text("two")
    assert commit(tmp_path) == f"{name}+"


def test_outside_of_git_it_is_unknown(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown"
