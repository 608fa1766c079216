"""Files that come in parts, because no package may be that large: put together once, in the cache folder.

A package ``NAME`` and the packages ``NAME-part1``, ``NAME-part2``, … carry ``FILE.part00``, ``FILE.part01``, …
"""

import hashlib
import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from genkan.engine.kernels.build import cache_dir
from genkan.errors import ModelFileError

_SUMS = "SHA256SUMS"
_PIECE_BYTES = 1 << 20
_MAX_CARRIERS = 100


def assembled(package: str, file_name: str) -> Path | None:
    """The whole of ``file_name``, or None where ``package`` has no parts of it.

    It is checked against the package's ``SHA256SUMS``, if it has one, when it is put together, and by its size after
    that. No package is imported. Raises ModelFileError. Cost: about 1 s for 250 MB, the first time.
    """
    parts = _parts(package, file_name)
    if not parts:
        return None
    try:
        sizes = [part.stat().st_size for part in parts]
        digest = _sum_of(package, file_name)
        key = hashlib.sha256(repr((package, metadata.version(package), file_name, sizes, digest)).encode())
        whole = cache_dir() / "models" / key.hexdigest()[:16] / Path(file_name).name
        if not (whole.is_file() and whole.stat().st_size == sum(sizes)):
            _put_together(parts, whole, digest)
        return whole
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise ModelFileError(f"{file_name} of the package {package} cannot be put together: {error}") from error


def _parts(package: str, file_name: str) -> list[Path]:
    """In order. Raises ModelFileError where one is missing."""
    found = {}
    for carrier in _carriers(package):
        for file in metadata.files(carrier) or []:
            name, _, number = file.name.rpartition(".part")
            if name == file_name and number.isdecimal():
                found[int(number)] = Path(str(file.locate()))
    if missing := sorted(set(range(max(found, default=-1) + 1)) - found.keys()):
        raise ModelFileError(f"{file_name} of the package {package} comes in parts, and part {missing[0]} is missing")
    return [found[number] for number in sorted(found)]


def _carriers(package: str) -> list[str]:
    """``package`` and those with parts of its files, up to the first that is not installed."""
    carriers = [package]
    while len(carriers) <= _MAX_CARRIERS and _is_installed(name := f"{package}-part{len(carriers)}"):
        carriers.append(name)
    return carriers


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _sum_of(package: str, file_name: str) -> str | None:
    """What the package says the SHA-256 of the whole file is, in hex."""
    for file in metadata.files(package) or []:
        if file.name == _SUMS:
            for line in Path(str(file.locate())).read_text().splitlines():
                if match := re.fullmatch(r"([0-9a-fA-F]{64})[ *]+(.+)", line.strip()):
                    digest, name = match.groups()
                    if Path(name).name == Path(file_name).name:
                        return digest.lower()
    return None


def _put_together(parts: list[Path], whole: Path, wanted: str | None) -> None:
    # Written aside and renamed: two processes may start at once, and one may be killed.
    whole.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".assembling-", dir=whole.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, out, _PIECE_BYTES)
        with open(aside, "rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        if wanted not in (None, digest):
            raise ModelFileError(f"{whole.name} is damaged: its SHA-256 is {digest}, and its package says {wanted}")
        os.replace(aside, whole)
    finally:
        Path(aside).unlink(missing_ok=True)
