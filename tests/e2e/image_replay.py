"""A Dockerfile played through on this machine, where no container engine is: into a folder, as nobody special.

What needs root (``NEEDS_ROOT``) is left out and listed. Every other step is done, in order and in the environment that
the file declares; paths of the image are paths below the folder. Packages can be lent to it, which saves minutes.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

NEEDS_ROOT = ("apt-get ", "groupadd ")
STEP_TIMEOUT_S = 300.0  # a minute on two idle cores
_OURS = re.compile(r"(?<![\w./-])/(?=(?:app|bento|home|var/lib/genkan)(?:[/\s]|$))")  # what steps write to
_NOT_THEIRS = {"..", "__pycache__"}  # folders in which every package may have files
_UNREACHABLE = ("No matching distribution found", "Max retries exceeded", "Failed to establish a new connection")


class PackagesUnreachable(Exception):
    """A package could not be had from here."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, its continuation lines joined, without comments."""

    word: str
    text: str


def steps(dockerfile: str) -> list[Step]:
    """The instructions in order."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    found = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [Step(word, text.strip()) for word, _, text in found]


@dataclass
class Replay:
    """The image as it is after the steps: ``root`` is its last stage, ``environ`` what its processes start with."""

    folder: Path
    context: Path
    build_args: Mapping[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    health_check: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _args: dict[str, str] = field(default_factory=dict)
    _stages: dict[str, Path] = field(default_factory=dict)
    _root: Path = Path()
    _workdir: str = "/"

    @property
    def root(self) -> Path:
        return self._root

    @property
    def workdir(self) -> Path:
        return self.at(self._workdir)

    def at(self, path: str) -> Path:
        """Where a path of the image is."""
        return Path(f"{self._root}{path}")

    def lend(self, pins: Collection[str], site: str) -> None:
        """Link what this Python has of ``pins``, ``NAME==VERSION``, into the image's folder ``site``; before ``play``.

        pip leaves alone what is there in the version that it is to install, and these came from the same locks by the
        same hashes. Not lent is what shares a folder with others, which pip would write into.
        """
        there = {pinned(one): one for one in metadata.distributions()}
        tops = {pin: {file.parts[0] for file in one.files or ()} - _NOT_THEIRS for pin, one in there.items()}
        owners = Counter(top for names in tops.values() for top in names)
        folder = Path(f"{self.folder}/image{site}")
        folder.mkdir(parents=True)
        for pin in there.keys() & pins:
            for top in tops[pin] if all(owners[top] == 1 for top in tops[pin]) else ():
                (folder / top).symlink_to(str(there[pin].locate_file(top)))

    def play(self, dockerfile: str) -> None:
        """Raises PackagesUnreachable where packages are not to be had, and AssertionError when a step fails."""
        does = {
            "FROM": self._from,
            "ENV": self._env,
            "ARG": self._arg,
            "WORKDIR": self._enter,
            "COPY": self._copy,
            "RUN": self._run,
            "EXPOSE": self._expose,
            "USER": self._become,
            "ENTRYPOINT": self._enter_by,
            "HEALTHCHECK": self._check_by,
        }
        for step in steps(dockerfile):
            does[step.word](step.text)

    def _from(self, text: str) -> None:
        _, _, name = text.partition(" AS ")
        self._root = self.folder / (name or "image")
        self._stages[name] = self._root
        self._workdir, self.environ, self._args = "/", {"PATH": self._base_path()}, {}
        self._root.mkdir(parents=True, exist_ok=True)

    def _base_path(self) -> str:
        """As in the base image: a ``python`` without packages, and the system's commands."""
        base = self.folder / "base"
        base.mkdir(parents=True, exist_ok=True)
        if not (base / "python").exists():
            (base / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        return f"{base}:/usr/bin:/bin"

    def _env(self, text: str) -> None:
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            expanded = re.sub(r"\$(\w+)", lambda found: self.environ.get(found[1], ""), self._here(value))
            self.environ[name] = expanded

    def _arg(self, text: str) -> None:
        name, _, default = text.partition("=")
        self._args[name] = self.build_args.get(name, default)

    def _enter(self, path: str) -> None:
        self._workdir = path
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _copy(self, text: str) -> None:
        *sources, target = text.split()
        origin = self.context
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).removeprefix("--from=")]
        to = self.at(os.path.normpath(os.path.join(self._workdir, target)))
        for source in sources:
            path = Path(f"{origin}/{source}")
            if path.is_dir():
                shutil.copytree(path, to, dirs_exist_ok=True)
            else:
                into = to / path.name if target.endswith("/") else to
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)

    def _run(self, text: str) -> None:
        if text.startswith(NEEDS_ROOT):
            self.left_out.append(text)
            return
        environ = {**_reach(), **self.environ, **self._args, "HOME": str(self.folder), "PIP_NO_COMPILE": "1"}
        process = subprocess.Popen(
            ["/bin/sh", "-c", self._here(text)],
            cwd=self.workdir,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=STEP_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):  # what the shell started goes with it
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode and any(words in said for words in _UNREACHABLE):
            raise PackagesUnreachable(said.strip().splitlines()[-1])
        assert process.returncode == 0, f"RUN {text}\n{said}"

    def _become(self, text: str) -> None:
        self.user = text

    def _expose(self, text: str) -> None:
        assert text.isdecimal()

    def _enter_by(self, text: str) -> None:
        self.entrypoint = [self._here(word) for word in json.loads(text)]  # the exec form, or this fails

    def _check_by(self, text: str) -> None:
        self.health_check = json.loads(text.partition("CMD ")[2])

    def _here(self, text: str) -> str:
        return _OURS.sub(f"{self._root}/", text)


def pinned(package: metadata.Distribution) -> str:
    """``NAME==VERSION``, as locks spell it."""
    return f"{re.sub(r'[-_.]+', '-', package.name).lower()}=={package.version}"


def _reach() -> dict[str, str]:
    """How packages are reached from this machine, which a builder's machine says in its own way."""
    return {name: value for name, value in os.environ.items() if name.upper().startswith(("PIP_", "SSL_", "HTTP"))}
