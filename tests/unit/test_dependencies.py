"""What the package says that it needs: as much as it imports, and the same wherever it is said."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Imported, and brought by what is asked for: to ask for them too would be to choose their versions twice.
BROUGHT = {
    "_bentoml_sdk": "bentoml",
    "circus": "bentoml",
    "opentelemetry": "opentelemetry-exporter-otlp-proto-http",
    "pydantic_core": "pydantic",
    "tornado": "bentoml",
    "triton": "torch",
    "uvicorn": "bentoml",
}
#: Needed by benchmarks and plots alone, whose requirements are in requirements/bench.in and requirements/dev.in.
TOOLS = {"httpx", "jsonschema", "matplotlib"}


def name_of(requirement: str) -> str:
    """The distribution's name, as Python's index spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


def declared() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])


def locked() -> set[str]:
    lines = (ROOT / "requirements" / "base.in").read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def imported() -> dict[str, set[str]]:
    """Foreign top-level packages, each with the files that import it."""
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "src").rglob("*.py"), ROOT / "service.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
                names = [node.module]
            for name in (each.partition(".")[0] for each in names):
                if name not in sys.stdlib_module_names and name != "genkan":
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_the_package_and_the_lock_ask_for_the_same() -> None:
    assert declared() == locked()


def test_whatever_is_imported_is_asked_for() -> None:
    distributions = packages_distributions()
    asked_for = {name_of(each) for each in declared()}
    missing = {
        name: sorted(files)
        for name, files in imported().items()
        if name not in TOOLS
        and name_of(BROUGHT.get(name, "")) not in asked_for
        and not asked_for & {name_of(each) for each in distributions.get(name, ())}
    }
    assert missing == {}


def test_the_tools_are_imported_by_benchmarks_and_commands_alone() -> None:
    files = {file for name in TOOLS for file in imported()[name]}
    assert all(file.startswith(("src/genkan/bench/", "src/genkan/cli/")) for file in files), files
    asked_for = {name_of(line) for path in ("bench.in", "dev.in") for line in _lines(path)}
    assert asked_for >= TOOLS


def test_nothing_is_excused_that_is_not_imported() -> None:
    assert BROUGHT.keys() | TOOLS <= imported().keys()


def _lines(name: str) -> list[str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
