"""The page that a server, its workers and `genkan drain` share."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genkan.server.drain import (
    FILE_VARIABLE,
    SLOTS,
    DrainPage,
    NoServer,
    Report,
    is_served,
    linger_left_s,
    page_of_server,
    page_path,
    served_pages,
)

NOW_S = 1_700_000_000.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "servers" / "page"


@pytest.fixture
def page(path: Path) -> Iterator[DrainPage]:
    page = DrainPage.create(path)
    yield page
    page.close()


def test_a_new_server_does_not_drain(page: DrainPage, path: Path) -> None:
    assert not page.is_draining
    assert not DrainPage.open(path).is_draining
    assert page.reports() == []


def test_who_opened_the_page_sees_what_another_does(page: DrainPage, path: Path) -> None:
    other = DrainPage.open(path)
    assert other.begin(NOW_S)
    assert (page.is_draining, page.since_unix_s) == (True, NOW_S)
    assert page.undo()
    assert not other.is_draining


def test_to_drain_twice_is_to_drain_since_the_first_time_and_to_undo_twice_is_nothing(page: DrainPage) -> None:
    assert page.begin(NOW_S)
    assert not page.begin(NOW_S + 5)
    assert page.since_unix_s == NOW_S
    assert page.undo()
    assert not page.undo()
    assert page.begin(NOW_S + 9)
    assert page.since_unix_s == NOW_S + 9


def test_another_process_sees_the_flag(page: DrainPage, path: Path) -> None:
    page.begin(NOW_S)
    code = (
        f"from pathlib import Path; from genkan.server.drain import DrainPage; d = DrainPage.open(Path({str(path)!r}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", f"{code}; print(d.is_draining, d.undo())"], capture_output=True, text=True
    )
    assert said.stdout == "True True\n", said.stderr
    assert not page.is_draining


def test_reports_are_those_of_workers_that_live(page: DrainPage, path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = Report(os.getpid(), 3, 7, True)
    last = Report(os.getppid(), 0, 1, False)
    page.report(0, mine)
    page.report(1, Report(gone.pid, 9, 9, True))
    page.report(SLOTS - 1, last)
    assert DrainPage.open(path).reports() == [mine, last]
    page.leave(0)
    assert page.reports() == [last]


def test_a_worker_that_was_killed_has_nothing_to_do_though_nobody_has_looked_yet(page: DrainPage) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    page.report(0, Report(killed.pid, 1, 1, True))
    assert len(page.reports()) == 1
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert page.reports() == []
    killed.wait()


def test_on_a_full_disk_there_is_an_error_and_nothing_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        DrainPage.create(path)
    assert list(path.parent.iterdir()) == []


def test_a_page_is_served_as_long_as_its_maker_has_it(path: Path) -> None:
    page = DrainPage.create(path)
    assert is_served(path)
    with pytest.raises(FileExistsError):
        DrainPage.create(path)
    page.close()
    page.close()
    assert not is_served(path)
    assert not path.exists()


def test_what_a_killed_server_left_behind_is_no_server_and_another_may_take_its_place(path: Path) -> None:
    path.parent.mkdir()
    code = "import os; from pathlib import Path; from genkan.server.drain import DrainPage\n"
    code += f"DrainPage.create(Path({str(path)!r})).begin(1.0); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert path.exists()
    assert not is_served(path)
    page = DrainPage.create(path)
    assert not page.is_draining
    page.close()


def test_pages_of_a_data_folder_are_this_machines_and_stale_ones_are_removed(tmp_path: Path) -> None:
    mine = page_path(tmp_path)
    page = DrainPage.create(mine)
    stale = mine.with_name(f"{os.uname().nodename}-1")
    elsewhere = mine.with_name("another-machine-1")
    stale.write_bytes(mine.read_bytes())
    elsewhere.write_bytes(mine.read_bytes())
    assert served_pages(tmp_path) == [mine]
    assert (stale.exists(), elsewhere.exists()) == (False, True)
    page.close()
    assert served_pages(tmp_path) == []
    assert served_pages(tmp_path / "nothing") == []


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_another_file_is_no_page(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(NoServer):
        DrainPage.open(file)
    with pytest.raises(NoServer):
        DrainPage.open(tmp_path / "nothing")


def test_a_worker_finds_its_servers_page_and_without_one_has_its_own(page: DrainPage, path: Path) -> None:
    page.begin(NOW_S)
    assert page_of_server({FILE_VARIABLE: str(path)}).is_draining
    for environ in ({}, {FILE_VARIABLE: str(path.with_name("nothing"))}):
        own = page_of_server(environ)
        assert own.begin(NOW_S)


def test_time_spent_drained_counts_as_lingering_and_a_clock_set_back_adds_nothing() -> None:
    page = DrainPage.private()
    assert linger_left_s(page, 5.0, NOW_S) == 5.0
    page.begin(NOW_S)
    assert linger_left_s(page, 5.0, NOW_S + 2) == 3.0
    assert linger_left_s(page, 5.0, NOW_S + 60) == 0.0
    assert linger_left_s(page, 5.0, NOW_S - 3600) == 5.0
