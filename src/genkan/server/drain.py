"""Whether this server is to be left alone, and what each of its workers still has to do: a page that they share.

The page is a small file, mapped into memory by the server, by its workers and by ``genkan drain``. To ask whether the
server drains is to read a byte; there is no call of the system in it. The server holds a lock on the file as long as it
lives, so that what a killed one left behind is known for that.

The flag is a byte of its own, so it is never seen half written. A worker's report may be, in theory: whoever decides by
reports reads them twice.
"""

import fcntl
import logging
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Names the page's file, to a server that is to make it there, and to workers and commands.
FILE_VARIABLE: Final = "GENKAN_DRAIN_FILE"
FOLDER: Final = "servers"
#: Twice as many as there may be workers: one that ends and the one in its place are there together.
SLOTS: Final = 128

_MAGIC: Final = b"genkan1\n"
_HEAD: Final = struct.Struct("=8s?7xd")  # magic, whether it drains, since when
_REPORT: Final = struct.Struct("=IIII")  # pid, requests, connections, whether it obeys the flag
_FLAG_AT: Final = 8
_SINCE: Final = struct.Struct("=d")
_SINCE_AT: Final = 16
_SIZE: Final = _HEAD.size + SLOTS * _REPORT.size
_log = logging.getLogger(__name__)


class NoServer(Exception):
    """There is no page of a living server at a path; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker is doing, a tenth of a second ago at the most."""

    pid: int
    requests: int
    connections: int
    is_draining: bool  # whether it has seen the flag


class DrainPage:
    """The flag and the reports of one server."""

    def __init__(self, memory: mmap.mmap, fd: int | None = None, path: Path | None = None) -> None:
        """``fd`` is the open file that holds the lock, and ``path`` the file to remove at the end; if it made them."""
        self._memory = memory
        self._fd = fd
        self._path = path

    @classmethod
    def private(cls) -> "DrainPage":
        """A page that nobody else sees."""
        memory = mmap.mmap(-1, _SIZE)
        _HEAD.pack_into(memory, 0, _MAGIC, False, 0.0)
        return cls(memory)

    @classmethod
    def create(cls, path: Path) -> "DrainPage":
        """A new page at ``path``, of a server that does not drain. Raises OSError, FileExistsError if another lives."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_served(path):
            raise FileExistsError(f"{path} belongs to another server")
        fd, new = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.posix_fallocate(fd, 0, _SIZE)  # on a full disk an error here, and not a SIGBUS when it is written
            page = cls(mmap.mmap(fd, _SIZE), fd, path)
            _HEAD.pack_into(page._memory, 0, _MAGIC, False, 0.0)
            Path(new).replace(path)
        except OSError:
            os.close(fd)
            Path(new).unlink(missing_ok=True)
            raise
        return page

    @classmethod
    def open(cls, path: Path) -> "DrainPage":
        """The page of the server at ``path``. Raises NoServer."""
        try:
            with path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), _SIZE)
        except (OSError, ValueError) as error:
            raise NoServer(f"{path}: {error}") from None
        if memory[: len(_MAGIC)] != _MAGIC:
            memory.close()
            raise NoServer(f"{path} is no page of a server")
        return cls(memory)

    @property
    def is_draining(self) -> bool:
        return self._memory[_FLAG_AT] != 0

    @property
    def since_unix_s(self) -> float:
        """When the server began to drain; of meaning while it does."""
        return float(_SINCE.unpack_from(self._memory, _SINCE_AT)[0])

    def begin(self, now_unix_s: float) -> bool:
        """Have the server drain; whether it did not yet."""
        if self.is_draining:
            return False
        _SINCE.pack_into(self._memory, _SINCE_AT, now_unix_s)
        self._memory[_FLAG_AT] = 1
        return True

    def undo(self) -> bool:
        """Have it serve as before; whether it drained."""
        was_draining = self.is_draining
        self._memory[_FLAG_AT] = 0
        return was_draining

    def report(self, slot: int, report: Report) -> None:
        """What the worker in ``slot``, from 0 on, is doing."""
        at = _HEAD.size + slot * _REPORT.size
        _REPORT.pack_into(self._memory, at, report.pid, report.requests, report.connections, report.is_draining)

    def leave(self, slot: int) -> None:
        """The worker in ``slot`` ends."""
        self.report(slot, Report(0, 0, 0, False))

    def reports(self) -> list[Report]:
        """Of every worker that is alive."""
        return [report for report in self._all() if report.pid and _is_alive(report.pid)]

    def close(self) -> None:
        """Its maker also removes the file. Twice is once."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._memory.close()

    def _all(self) -> Iterator[Report]:
        for slot in range(SLOTS):
            pid, requests, connections, is_draining = _REPORT.unpack_from(
                self._memory, _HEAD.size + slot * _REPORT.size
            )
            yield Report(pid, requests, connections, bool(is_draining))


def page_of_server(environ: Mapping[str, str]) -> DrainPage:
    """In a worker: the page of its server; a private one where there is none, as in an application of its own."""
    path = environ.get(FILE_VARIABLE)
    try:
        return DrainPage.private() if path is None else DrainPage.open(Path(path))
    except NoServer as error:
        _log.warning("this worker cannot be told to drain: %s", error)
        return DrainPage.private()


def page_path(data_dir: Path) -> Path:
    """Where a server that was told no other place has its page: nobody else has its name, on a shared volume either."""
    return data_dir.absolute() / FOLDER / f"{os.uname().nodename}-{os.getpid()}"


def served_pages(data_dir: Path) -> list[Path]:
    """The pages of the servers of this machine with data in ``data_dir``; what dead ones left behind is removed."""
    found = []
    for path in sorted((data_dir.absolute() / FOLDER).glob(f"{os.uname().nodename}-*")):
        if is_served(path):
            found.append(path)
        else:
            path.unlink(missing_ok=True)
    return found


def is_served(path: Path) -> bool:
    """Whether the server that made the page lives: whether its lock is held."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def linger_left_s(page: DrainPage, linger_s: float, now_unix_s: float) -> float:
    """How long a server that is told to stop still takes new requests; a clock that was set back adds nothing."""
    if not page.is_draining:
        return linger_s
    return min(linger_s, max(0.0, linger_s - (now_unix_s - page.since_unix_s)))


def _is_alive(pid: int) -> bool:
    """Whether it still works: one that was killed is in the list of processes until its server has looked."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def now_unix_s() -> float:
    """The clock of pages: one that all processes share."""
    return time.time()
