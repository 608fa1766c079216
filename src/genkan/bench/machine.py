"""What figures were measured on: without that they say nothing. Linux only: it reads /proc."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from genkan.bench.server_process import ROOT

_PACKAGES = ("bentoml", "torch", "transformers", "uvloop")
_GIB = 1 << 30


def machine() -> dict[str, str]:
    """The hardware and the versions, in words, by what they are of; and the day, the commit and how busy it was."""
    packages = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    return {
        "cpu": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory_gib:.1f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "packages": packages,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(ROOT),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def commit(root: Path) -> str:
    """The short name of what is checked out, with a + where files differ from it; "unknown" outside of git."""
    name = _git(root, "rev-parse", "--short", "HEAD")
    if name is None:
        return "unknown"
    # What a report writes itself does not count.
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!README.md")
    return f"{name}+" if changed else name


def _git(root: Path, *arguments: str) -> str | None:
    if (git := shutil.which("git")) is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603 - the arguments are our own
            [git, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
