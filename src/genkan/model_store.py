"""Models in BentoML's store: brought there from the wheels that carry them, and found there where no wheel is.

A Bento names its models, and an image brings them along, so neither needs the wheels. Each package is one model of the
package's name, whose version is made of what is in it: the same files are the same version on every machine.
"""

import hashlib
import os
import re
import shutil
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException, NotFound

from genkan.config import Config
from genkan.engine.load.source import FOLDERS_VARIABLE, WHEEL_PREFIX, is_installed, locate

_LICENCE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)", re.IGNORECASE)
_SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Imported:
    """A model in the store. ``is_new`` unless the same was there before."""

    tag: str
    is_new: bool


def import_models(config: Config) -> list[Imported]:
    """Bring every file that ``config`` names as ``wheel:PACKAGE/FILE`` into BentoML's store, with its licence.

    What is there already is left alone, and ends up as the latest of its name. Raises ModelFileError where a wheel or
    its file is missing. Cost: to read the files once, and to copy the new ones twice.
    """
    return [_import(package, files) for package, files in _packed(config).items()]


def share_stored(config: Config, environ: MutableMapping[str, str] = os.environ) -> None:
    """Have ``locate`` find the models of packages that are not installed in BentoML's store; workers inherit it.

    In a Bento they are the versions it was built with, else the latest. Nothing is done where all are installed.
    """
    folders = environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    for package in _packed(config):
        if package and not is_installed(package):
            with suppress(BentoMLException, ValueError):  # not there, or no name; locate says so, and what to do
                folders.append(str(bentoml.models.get(package).path))
    environ[FOLDERS_VARIABLE] = os.pathsep.join(dict.fromkeys(filter(None, folders)))


def _packed(config: Config) -> dict[str, list[str]]:
    """The files that a configuration wants of each package, by its normalised name."""
    sources = [config.engine_of(model).model for model in config.engine_models.values()]
    if config.embedder is not None:
        sources.append(config.embedder.model)
    packed: dict[str, list[str]] = {}
    for source in dict.fromkeys(sources):
        if source.startswith(WHEEL_PREFIX):
            package, _, file = source.removeprefix(WHEEL_PREFIX).partition("/")
            packed.setdefault(re.sub(r"[-_.]+", "-", package).lower(), []).append(file)
    return packed


def _import(package: str, files: list[str]) -> Imported:
    sources = {file: locate(f"{WHEEL_PREFIX}{package}/{file}") for file in files}
    sources |= {file.name: Path(str(file.locate())) for file in _licences(package)}
    sums = "".join(f"{_sha256(path)}  {place}\n" for place, path in sorted(sources.items()))
    tag = f"{package}:{hashlib.sha256(sums.encode()).hexdigest()[:16]}"
    with suppress(NotFound):
        if str(bentoml.models.get(f"{package}:latest").tag) == tag:
            return Imported(tag, is_new=False)
        bentoml.models.delete(tag)  # the store's latest is the one that was made last
    facts = {"package": package, "version": metadata.version(package)}
    with bentoml.models.create(tag, labels=facts) as model:
        Path(model.path).chmod(0o755)  # a temporary folder, whose mode the store would keep
        for place, path in sources.items():
            target = Path(model.path) / package / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (Path(model.path) / package / _SUMS).write_text(sums, encoding="utf-8")
    return Imported(tag, is_new=True)


def _licences(package: str) -> list[metadata.PackagePath]:
    return [file for file in metadata.files(package) or [] if _LICENCE.match(file.name)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
