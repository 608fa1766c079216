"""One file of the journal, held by one process at a time.

Who writes a segment, or replays one, holds its flock. The kernel frees that when the process ends, however it ends: so
a segment whose lock is free has nobody who remembers what it says. A lock can be taken just before the file is removed
by who held it before; then it is the lock of nothing, which `os.fstat` tells by the file having no name any more.

A file whose records are all done is used again, as to write where something stands already costs the system half of
what new pages do. A line belongs to the life of the file whose ``seed`` its first line names, so when that is
overwritten, all that was written before is as good as gone. Nothing but the content changes, so `fdatasync` is enough.

A child that is forked, and does not execute another program, shares the locks, and keeps them for as long as it lives.
"""

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path

from genkan.gateway.journal_records import first_line

_NAME = re.compile(r"\d+-[0-9a-f]{12}\.journal")


class Segment:
    """A segment that this process writes. Its file is made at the first write, under a name of its own."""

    __slots__ = ("_fd", "_folder", "has_left", "is_dirty", "path", "requests", "seed", "size_bytes")

    def __init__(self, folder: Path) -> None:
        self.path: Path | None = None
        self.seed = secrets.randbits(32)
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
        """Forget what was written; the file stays. Raises OSError, and is then good for nothing but `remove`."""
        seed = secrets.randbits(32)
        if self._fd >= 0:
            self.size_bytes = self._begin(self._fd, seed)
        self.seed, self.has_left, self.is_dirty = seed, False, True

    def remove(self) -> None:
        """Delete the file."""
        if self.path is not None:
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
            path = self._folder / f"{os.getpid()}-{secrets.token_hex(6)}.journal"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                # If not, it was found between those two calls by who replays, and is removed by them as it is empty.
                if _locked(fd):
                    self.size_bytes = self._begin(fd, self.seed)
                    self._fd, self.path = fd, path
            except OSError:
                path.unlink(missing_ok=True)
                raise
            finally:
                if self._fd < 0:
                    os.close(fd)

    def _begin(self, fd: int, seed: int) -> int:
        """Write the first line; its length."""
        line = first_line(seed)
        if os.pwrite(fd, line, 0) < len(line):
            raise OSError(errno.ENOSPC, "only a part of a segment's first line was written")
        return len(line)


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
