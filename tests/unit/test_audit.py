"""scripts/audit.py: what of pip-audit's report is a finding, and what only was not looked up."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"
#: As pip-audit 2.10 writes them.
CLEAN: dict[str, Any] = {"name": "good", "version": "1.0", "vulns": []}
VULNERABLE: dict[str, Any] = {
    "name": "bad",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": "…"}],
}
SKIPPED: dict[str, Any] = {"name": "lost", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, probe: list[Any], packages: list[Any]) -> int:
    def audited(locks: list[Path]) -> list[Any]:
        return probe if [lock.name for lock in locks] == [audit.PROBE] else packages

    monkeypatch.setattr(audit, "audited", audited)
    return int(audit.main())


def test_a_finding_fails(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audit, monkeypatch, [CLEAN], [CLEAN, VULNERABLE, SKIPPED]) == 1
    assert "bad 2.0: PYSEC-2026-1, mended in 2.1, 3.0" in capsys.readouterr().err


def test_what_cannot_be_looked_up_is_named_and_fails_nothing(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audit, monkeypatch, [CLEAN], [CLEAN, SKIPPED]) == 0
    assert "1 packages could not be looked up: lost" in capsys.readouterr().out


def test_a_machine_without_advisories_does_not_look_audited(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audit, monkeypatch, [SKIPPED], [VULNERABLE]) == 0
    assert capsys.readouterr().out.startswith("audit: not done")


@pytest.mark.parametrize(
    ("stderr", "outcome"), [("ConnectionError: no route", "Unreachable"), ("ERROR: bad hash", "AuditFailed")]
)
def test_only_the_network_may_fail(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, stderr: str, outcome: str
) -> None:
    ended = audit.subprocess.CompletedProcess([], 1, stdout="", stderr=stderr)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(getattr(audit, outcome)):
        audit.audited([])


def test_every_lock_is_looked_at_once(audit: ModuleType) -> None:
    names = {lock.name for lock in audit.LOCKS.glob("*.lock")}
    assert {audit.PROBE, *audit.REPEATED} <= names
    bento = (audit.LOCKS / "bento.lock").read_text(encoding="utf-8")
    for repeated in ("base.lock", "torch-cuda.lock"):
        lines = (audit.LOCKS / repeated).read_text(encoding="utf-8").splitlines()
        assert all(line in bento for line in lines if "==" in line)
