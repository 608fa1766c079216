"""The journal's files: how they come and go, who may replay them, and a disk that is full."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledgers import admission, settlement

from genkan.gateway import segment
from genkan.gateway.journal import Journal
from genkan.gateway.journal_records import Unfinished, contents_of
from genkan.gateway.segment import Orphan, segments_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder)
    yield journal
    journal.close()


def unfinished(folder: Path) -> list[str]:
    """Ids that replaying all of the folder's files would settle, whoever holds them."""
    found = (contents_of(path.read_bytes()).unfinished for path in segments_in(folder))
    return sorted(each.settlement.request_id for some in found for each in some)


class FullDisk:
    """A disk that takes ``room`` more bytes, as seen by `os.pwrite`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 10**9
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, data: bytes, offset: int) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(fd, data[: self.room], offset)
        self.room -= written
        return written


def test_a_record_is_in_the_file_when_the_call_returns(journal: Journal, folder: Path) -> None:
    assert journal.begun(admission("r1"), True, 1, "m@u", 1.0)
    (path,) = segments_in(folder)
    (found,) = contents_of(path.read_bytes()).unfinished
    assert (found.settlement.request_id, found.is_lost) == ("r1", True)
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_the_newest_segment_is_emptied_when_all_is_done_and_deleted_at_the_end(journal: Journal, folder: Path) -> None:
    for each in "ab":
        journal.begun(admission(each), True, 1, "m@u", 1.0)
        journal.settled(settlement(each), 2.0)
    journal.done(["a"])
    assert unfinished(folder) == ["b"]
    journal.done(["b", "unknown"])
    (path,) = segments_in(folder)
    assert unfinished(folder) == []
    assert path.stat().st_size > 0  # it is used again
    journal.settled(settlement("c"), 3.0)
    assert unfinished(folder) == ["c"]
    journal.done(["c"])
    journal.close()
    assert segments_in(folder) == []


def test_a_request_stays_in_the_segment_it_began_in_which_is_deleted_once_done(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1)
    journal.begun(admission("a"), True, 1, "m@u", 1.0)
    journal.begun(admission("b"), True, 1, "m@u", 1.0)
    journal.attempted("a", 2, "m@v", 1.5)
    journal.settled(settlement("a"), 2.0)
    assert len(segments_in(folder)) == 2
    for path in segments_in(folder):
        assert len(contents_of(path.read_bytes()).unfinished) == 1
    journal.done(["a"])
    assert unfinished(folder) == ["b"]
    journal.close()
    assert (len(segments_in(folder)), unfinished(folder)) == (1, ["b"])


def test_segments_that_are_done_are_used_again_and_nothing_of_their_earlier_lives_shows(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=2_000)
    files = set[str]()
    for n in range(300):
        journal.begun(admission(f"r{n}"), True, 1, "m@u", 1.0)
        if n % 10 == 9:  # the last ten, of which some are not settled when they are done
            assert unfinished(folder) == sorted(f"r{each}" for each in range(n - 9, n + 1))
            journal.done(f"r{each}" for each in range(n - 9, n + 1))
        files |= {path.name for path in segments_in(folder)}
    assert 1 < len(files) < 8  # for the 300 of them, each of half a kilobyte
    journal.close()
    assert segments_in(folder) == []


def test_a_segment_that_cannot_be_used_again_is_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, disk = Journal(folder, segment_bytes=1), FullDisk(monkeypatch)
    for each in "ab":
        journal.begun(admission(each), True, 1, "m@u", 1.0)
    disk.room = 0
    journal.done(["a"])
    assert (len(segments_in(folder)), unfinished(folder)) == (1, ["b"])
    journal.close()


def test_a_segment_that_another_still_holds_or_that_cannot_be_locked_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    held, locked, answers = list[int](), segment._locked, iter(["taken", "error"])

    def disturbed(fd: int) -> bool:
        match next(answers, "mine"):
            case "taken":
                held.append(os.open(segments_in(folder)[0], os.O_RDONLY))
                assert locked(held[0])  # and is not let go for a while
            case "error":
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return locked(fd)

    monkeypatch.setattr(segment, "_locked", disturbed)
    assert not journal.settled(settlement("a"), 1.0)
    journal.retry()
    assert journal.settled(settlement("b"), 1.0)
    assert unfinished(folder) == ["a", "b"]
    os.close(held.pop())
    journal.close()


def test_what_never_got_to_the_journal_is_all_in_the_end_of_its_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, disk = Journal(folder, kept_bytes=1), FullDisk(monkeypatch)
    disk.room = 0
    assert not journal.begun(admission("a"), True, 1, "m@u", 1.0)
    disk.room = 10**9
    assert journal.settled(settlement("a"), 2.0)
    (path,) = segments_in(folder)
    assert contents_of(path.read_bytes()).unfinished == [Unfinished(settlement("a"), 2.0, False)]
    journal.done(["a"])
    assert not journal._dropped
    journal.close()


@pytest.mark.anyio
async def test_what_can_be_read_is_recalled_with_all_that_was_reserved(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1)
    for each in "abc":
        journal.begun(admission(each), True, 1, "m@u", 1.0)
    for each in "ab":
        journal.settled(settlement(each), 2.0)
    assert sorted(each.request_id for each in await journal.recall(["a", "b", "c", "x"])) == ["a", "b"]
    assert await journal.recall(["b"]) == [settlement("b")]
    for path in segments_in(folder):
        if b'"a"' in path.read_bytes():
            path.unlink()
    assert await journal.recall(["a", "b"]) == [settlement("b")]
    journal.close()


def test_nobody_replays_a_segment_that_has_a_writer_nor_one_that_is_being_replayed(folder: Path) -> None:
    journal = Journal(folder)
    journal.settled(settlement("a"), 1.0)
    assert journal.orphans() == []
    (path,) = segments_in(folder)
    assert Orphan.take(path) is None
    journal.close()
    first = Orphan.take(path)
    assert first is not None
    assert Orphan.take(path) is None
    first.release()
    second = Orphan.take(path)
    assert second is not None
    second.remove()
    assert Orphan.take(path) is None


def test_a_lock_on_a_file_that_was_just_deleted_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    journal.settled(settlement("a"), 1.0)
    journal.close()
    (path,) = segments_in(folder)
    opened = os.open

    def open_late(name: Path, flags: int, mode: int = 0o777) -> int:
        fd = opened(name, flags, mode)
        path.unlink()  # by who replayed it, between our open and our lock
        return fd

    monkeypatch.setattr(os, "open", open_late)
    assert Orphan.take(path) is None


def test_a_new_segment_that_another_finds_before_it_is_locked_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    opened = os.open
    stolen: list[Path] = []

    def found_at_once(name: Path, flags: int, mode: int = 0o777) -> int:
        fd = opened(name, flags, mode)
        if not stolen:
            stolen.append(name)
            monkeypatch.setattr(os, "open", opened)
            orphan = Orphan.take(name)
            assert orphan is not None
            orphan.remove()
        return fd

    monkeypatch.setattr(os, "open", found_at_once)
    assert journal.settled(settlement("a"), 1.0)
    assert stolen
    assert unfinished(folder) == ["a"]
    journal.close()


def test_files_of_others_are_left_alone(journal: Journal, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("notes.txt", "1-0123456789ab.journal.bak", "x.journal", "refused.jsonl"):
        (folder / name).write_text("?")
    assert journal.orphans() == []
    ours = folder / "1-0123456789ab.journal"
    ours.write_bytes(b"")
    assert journal.orphans() == [ours]


def test_what_is_left_waits_for_the_requests_beside_it_and_is_then_anybodys(folder: Path) -> None:
    journal = Journal(folder)
    journal.settled(settlement("left"), 1.0)
    journal.begun(admission("running"), True, 1, "m@u", 1.0)
    journal.leave("left")
    journal.hand_over_left()
    (path,) = segments_in(folder)
    assert Orphan.take(path) is None
    journal.settled(settlement("running"), 2.0)
    journal.done(["running"])
    orphan = Orphan.take(path)
    assert orphan is not None
    orphan.release()
    assert unfinished(folder) == ["left"]
    assert journal.settled(settlement("later"), 3.0)
    assert unfinished(folder) == ["later", "left"]
    journal.close()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_loses_nothing_once_it_has_room_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    journal, disk = Journal(folder), FullDisk(monkeypatch)
    assert journal.settled(settlement("before"), 1.0)
    disk.room = room
    assert not journal.settled(settlement("a"), 1.0)
    assert not journal.begun(admission("b"), True, 1, "m@u", 1.0)
    journal.retry()
    assert unfinished(folder) == ["before"]
    disk.room = 10**9
    journal.retry()
    assert unfinished(folder) == ["a", "b", "before"]
    assert journal.settled(settlement("c"), 1.0)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    journal.close()


def test_a_full_disk_takes_no_more_memory_than_it_may(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, disk = Journal(folder, kept_bytes=10_000), FullDisk(monkeypatch)
    disk.room = 0
    for n in range(1000):
        assert not journal.settled(settlement(f"r{n}"), 1.0)
    assert sum(len(line) for _, line in journal._kept) <= 10_000
    disk.room = 10**9
    journal.retry()
    kept = unfinished(folder)
    assert 10 < len(kept) < 40
    assert "r0" in kept
    journal.done(f"r{n}" for n in range(1000))
    journal.close()
    assert segments_in(folder) == []


def test_what_is_done_before_the_disk_has_room_again_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, disk = Journal(folder), FullDisk(monkeypatch)
    disk.room = 0
    journal.settled(settlement("a"), 1.0)
    journal.done(["a"])
    disk.room = 10**9
    assert journal.settled(settlement("b"), 1.0)
    assert unfinished(folder) == ["b"]
    journal.close()


def test_a_segment_is_not_let_go_before_what_is_left_of_it_was_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, disk = Journal(folder), FullDisk(monkeypatch)
    journal.begun(admission("a"), True, 1, "m@u", 1.0)
    disk.room = 0
    journal.settled(settlement("a"), 2.0)
    journal.leave("a")
    journal.hand_over_left()
    (path,) = segments_in(folder)
    assert Orphan.take(path) is None
    disk.room = 10**9
    journal.retry()
    (found,) = contents_of(path.read_bytes()).unfinished
    assert not found.is_lost
    orphan = Orphan.take(path)
    assert orphan is not None
    orphan.release()
    journal.close()


def test_a_folder_that_cannot_be_made_fails_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "journal")
    assert not journal.settled(settlement("a"), 1.0)
    journal.done(["a"])
    journal.set_aside(settlement("b"), "why not")
    journal.close()


@pytest.mark.anyio
async def test_every_write_is_synced_at_once_or_when_it_is_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    careful, usual = Journal(folder / "a", fsync_s=0), Journal(folder / "b")
    careful.settled(settlement("a"), 1.0)
    assert len(synced) == 1
    usual.settled(settlement("a"), 1.0)
    usual.settled(settlement("b"), 1.0)
    assert len(synced) == 1
    await usual.sync()
    await usual.sync()
    assert [Path(path).parent.name for path in synced] == ["a", "b"]
    for journal in (careful, usual):
        journal.close()


@pytest.mark.anyio
async def test_a_sync_that_nobody_waits_for_any_more_keeps_no_file_open(folder: Path) -> None:
    loop, hold = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, hold.wait)  # the only thread there is
    journal = Journal(folder)
    journal.settled(settlement("a"), 1.0)
    syncing = asyncio.create_task(journal.sync())
    await asyncio.sleep(0)
    syncing.cancel()
    await asyncio.gather(syncing, return_exceptions=True)
    journal.close()
    hold.set()
    await held
    await loop.run_in_executor(None, lambda: None)  # after all that the thread was given before
    orphan = Orphan.take(segments_in(folder)[0])
    assert orphan is not None
    orphan.release()


def test_what_is_set_aside_is_never_replayed(journal: Journal, folder: Path) -> None:
    for each in "ab":
        journal.set_aside(settlement(each), "ERR no")
    lines = (folder / "refused.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert '"why":"ERR no"' in lines[0]
    assert journal.orphans() == []


WRITER = """
import sys
from pathlib import Path
from ledgers import admission, settlement
from genkan.gateway.journal import Journal

journal = Journal(Path(sys.argv[1]), segment_bytes=20_000)
for n in range(10**9):
    journal.begun(admission(f"r{n}"), True, 1, "m@u", 1.0)
    print("begun", n, flush=True)
    if n % 3:
        journal.settled(settlement(f"r{n}"), 2.0)
        print("settled", n, flush=True)
    if n % 3 == 2:
        print("done", n, flush=True)
        journal.done([f"r{n}"])
"""


@pytest.mark.parametrize("lines_before_death", [1, 2, 50, 333])
def test_whatever_a_killed_writer_had_done_can_be_read(folder: Path, lines_before_death: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environ) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines_before_death)]
        writer.send_signal(signal.SIGKILL)
        said += [line for line in writer.stdout if line.endswith("\n")]
    words = [line.split() for line in said]
    begun, settled, done = ({int(n) for what, n in words if what == which} for which in ("begun", "settled", "done"))
    found = {}
    for path in segments_in(folder):
        orphan = Orphan.take(path)
        assert orphan is not None
        for each in contents_of(orphan.read()).unfinished:
            found[int(each.settlement.request_id[1:])] = each.is_lost
        orphan.remove()
    last = max(begun) + 1  # it may have done one more thing, and died before it said so
    for n in begun - done - {last - 1}:
        assert found[n] == (n not in settled)
    assert set(found) - {last} - {last - 1} == begun - done - {last - 1}
