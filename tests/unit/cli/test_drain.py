"""``genkan drain``."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from genkan.cli import main
from genkan.server.drain import FILE_VARIABLE, DrainPage, Report, page_path


class Machine:
    """A configuration, and commands in its environment."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        path = folder / "genkan.yaml"
        drain = {"notice_s": 0, "wait_s": 0.2}
        upstreams = [{"name": "e", "kind": "engine"}]
        models = [{"name": "m", "upstream": "e"}]
        path.write_text(json.dumps({"server": {"drain": drain}, "upstreams": upstreams, "models": models}))
        self._environ = {"GENKAN_CONFIG": str(path), "GENKAN__REDIS__DATA_DIR": str(self.data), FILE_VARIABLE: None}

    def drain(self, *line: str, **environ: str) -> Result:
        return CliRunner().invoke(main, ["drain", *line], env={**self._environ, **environ})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def page(machine: Machine) -> Iterator[DrainPage]:
    page = DrainPage.create(page_path(machine.data))
    yield page
    page.close()


def test_it_drains_undoes_and_says_what_was_so_already(machine: Machine, page: DrainPage) -> None:
    assert machine.drain().stdout == "drains\n"
    assert (page.is_draining,) == (True,)
    assert machine.drain().stdout == "drains already\n"
    assert machine.drain("--undo").stdout == "serves as before\n"
    assert not page.is_draining
    assert machine.drain("--undo").stdout == "did not drain\n"


def test_it_waits_until_nothing_is_under_way(machine: Machine, page: DrainPage) -> None:
    page.report(0, Report(os.getpid(), 0, 3, True))
    result = machine.drain("--wait")
    assert (result.exit_code, "nothing is under way" in result.stdout) == (0, True)


@pytest.mark.parametrize("line", [("--wait",), ("--wait", "--timeout", "0")])
def test_it_gives_up_with_1_and_says_what_is_left(machine: Machine, page: DrainPage, line: tuple[str, ...]) -> None:
    page.report(0, Report(os.getpid(), 2, 3, True))
    result = machine.drain(*line)
    assert (result.exit_code, "2 requests are under way" in result.stderr) == (1, True)


def test_to_be_given_no_time_to_notice_is_not_to_be_idle(machine: Machine, page: DrainPage) -> None:
    page.report(0, Report(os.getpid(), 0, 0, False))
    result = machine.drain("--wait")
    assert (result.exit_code, "not all have noticed after" in result.stderr) == (1, True)


def test_without_a_server_it_says_so(machine: Machine) -> None:
    result = machine.drain("--wait")
    assert (result.exit_code, "no server runs" in result.stderr) == (1, True)


def test_of_several_servers_one_must_be_named(machine: Machine, page: DrainPage) -> None:
    mine = page_path(machine.data)
    other = DrainPage.create(mine.with_name(f"{mine.name.rpartition('-')[0]}-1"))
    result = machine.drain()
    assert (result.exit_code, "say which by --pid" in result.stderr) == (1, True)
    assert machine.drain("--pid", "1").exit_code == 0
    assert (page.is_draining, other.is_draining) == (False, True)
    assert machine.drain("--pid", "2").exit_code == 1
    other.close()


def test_a_file_may_be_named_and_must_be_a_servers(machine: Machine, page: DrainPage, tmp_path: Path) -> None:
    named = DrainPage.create(tmp_path / "page")
    assert machine.drain(**{FILE_VARIABLE: str(tmp_path / "page")}).exit_code == 0
    assert (page.is_draining, named.is_draining) == (False, True)
    named.close()
    result = machine.drain(**{FILE_VARIABLE: str(tmp_path / "page")})
    assert (result.exit_code, "no server runs" in result.stderr) == (1, True)
