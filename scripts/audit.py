"""Whether a pinned package has a known vulnerability: pip-audit over every lock file, without installing anything.

pip-audit passes over packages that it cannot look up and then says that there is nothing known. So its report is read
here: a machine that cannot reach the advisories says so, in one line, and does not look audited. A finding always
fails, and so does anything else that goes wrong. Run by `make check`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent.parent / "requirements"
#: A lock of one package, which tells within a second whether the advisories can be reached.
PROBE = "k6.lock"
#: What is left out is in another: bento.lock is base.lock and the CUDA build, and the CPU's is the same release.
REPEATED = frozenset({"base.lock", "torch-cpu.lock", "torch-cuda.lock"})
_TIMEOUT_S = 300
_UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError")


class Unreachable(Exception):
    """The advisories cannot be asked for from this machine."""


class AuditFailed(Exception):
    """pip-audit did not come to an end, for another reason than the network."""


def audited(locks: list[Path]) -> list[dict[str, Any]]:
    """pip-audit's entry for each package of ``locks``. Raises Unreachable or AuditFailed."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    command += ["--format", "json", *(word for lock in locks for word in ("-r", str(lock)))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    try:
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except ValueError:
        for word in _UNREACHABLE:
            if word in ended.stderr:
                raise Unreachable(word) from None
        last = ended.stderr.strip().rpartition("\n")[2]
        raise AuditFailed(last[-300:] or f"pip-audit ended with {ended.returncode}") from None
    return found


def findings(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each known vulnerability, with the versions that mend it."""
    lines = [
        f"{package['name']} {package['version']}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'none'}"
        for package in packages
        for vuln in package.get("vulns", ())
    ]
    return sorted(set(lines))


def skipped(packages: list[dict[str, Any]]) -> list[str]:
    """The names of those that could not be looked up."""
    return sorted({package["name"] for package in packages if "skip_reason" in package})


def main() -> int:
    try:
        probe = audited([LOCKS / PROBE])
        if len(skipped(probe)) == len(probe):
            raise Unreachable("the package index has no advisories")
        packages = audited(sorted(lock for lock in LOCKS.glob("*.lock") if lock.name not in REPEATED))
    except Unreachable as error:
        print(f"audit: not done, advisories cannot be reached from here ({error})")
        return 0
    except (AuditFailed, subprocess.TimeoutExpired) as error:
        print(f"audit: failed: {error}", file=sys.stderr)
        return 1
    if unknown := skipped(packages):
        print(f"audit: {len(unknown)} packages could not be looked up: {', '.join(unknown)}")
    for line in (found := findings(packages)):
        print(f"audit: {line}", file=sys.stderr)
    print(f"audit: {len(packages) - len(unknown)} packages looked up, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
