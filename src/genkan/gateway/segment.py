"""One file of the journal, held by one process at a time.

Who writes a segment, or replays one, holds its flock. The kernel frees that when the process ends, however it ends: so
a segment whose lock is free has nobody who remembers what it says. A lock can be taken just before the file is removed
by who held it before; then it is the lock of nothing, which `os.fstat` tells by the file having no name any more.

A file whose records are all done is used again, as to write where something stands already costs the system half of
what new pages do. It then gets another name, and a line belongs to a file by the ``seed`` that its name holds, so what
was written under its old name is as good as gone.

A child that is forked, and does not execute another program, shares the locks, and keeps them for as long as it lives.
"""

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path

_NAME = re.compile(r"\d+-[0-9a-f]{12}\.journal")


class Segment:
    """A segment that this process writes. Its file is made at the first write, under a name of its own."""

    __slots__ = ("_fd", "_folder", "has_left", "is_dirty", "path", "requests", "seed", "size_bytes")

    def __init__(self, folder: Path) -> None:
        self.path = _new_path(folder)
        self.seed = seed_of(self.path)
        self.size_bytes = 0
        self.is_dirty = False  # written since the last `duplicate`
        self.has_left = False  # some of its requests are left to whoever replays it
        self.requests = 0  # how many of them this process still looks after
        self._folder = folder
        self._fd = -1

    def write(self, line: bytes) -> None:
        """Add a whole line, by one call of the system. Raises OSError, and has added none, if not all of it fits."""
        if self._fd < 0:
            self._open()
        written = os.pwrite(self._fd, line, self.size_bytes)
        if written < len(line):
            raise OSError(errno.ENOSPC, "only a part of a record was written")
        self.size_bytes += written
        self.is_dirty = True

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fdatasync(self._fd)

    def duplicate(self) -> int | None:
        """Another descriptor of the file for who syncs it, and closes it; None if nothing was written meanwhile."""
        if not self.is_dirty or self._fd < 0:
            return None
        self.is_dirty = False
        return os.dup(self._fd)

    def renew(self) -> None:
        """Forget what was written; the file stays, under another name. Raises OSError."""
        path = _new_path(self._folder)
        if self._fd >= 0:
            self.path.rename(path)
        self.path, self.seed = path, seed_of(path)
        self.size_bytes, self.has_left = 0, False

    def remove(self) -> None:
        """Delete the file."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file: whoever finds it may replay it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while self._fd < 0:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                is_mine = _locked(fd)
            except OSError:
                os.close(fd)
                raise
            if is_mine:
                self._fd = fd
            else:  # found between those two calls by who replays, and removed as it is empty
                os.close(fd)


class Orphan:
    """A segment whose writer is gone, held until `remove` or `release`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def take(cls, path: Path) -> "Orphan | None":
        """The segment at ``path``; None if another process holds it, or it is gone."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            if _locked(fd):
                return cls(path, fd)
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def read(self) -> bytes:
        """All of it. May be called in a thread that outlives the lock."""
        return self.path.read_bytes()

    def remove(self) -> None:
        """Delete it: all that it says is done."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave it for later, or to another process."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def seed_of(path: Path) -> int:
    """What the checksums of a segment's lines begin with; of 32 bits."""
    return int(path.stem[-8:], 16)


def _new_path(folder: Path) -> Path:
    return folder / f"{os.getpid()}-{secrets.token_hex(6)}.journal"


def segments_in(folder: Path) -> list[Path]:
    """Every segment there, whoever holds it, in no order; other files are not ours."""
    try:
        return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []


def _locked(fd: int) -> bool:
    """Whether the lock is ours now, and that of a file that still has a name. Raises OSError if files have no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0
