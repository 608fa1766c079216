"""One server a data folder: an advisory lock on a file in it, which names its holder."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from genkan.errors import ConfigError

FILE = "lock"
SETTING = "redis.data_dir"
_POLL_S = 0.02


class FolderLock:
    """The lock of ``folder``, free again when every process that has ``fd`` is gone, however it went.

    Source: flock(2); the lock belongs to the open file, which a child that inherits ``fd`` shares.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        assert self._fd is not None, "take() comes first"
        return self._fd

    @property
    def holder(self) -> str:
        """Who has it, for a message."""
        pid = (self.folder / FILE).read_text(encoding="ascii", errors="replace").strip()
        if not pid.isdecimal():
            return "another process"
        return f"process {pid}" if _is_there(pid) else f"what process {pid} left behind"

    def take(self, wait_s: float) -> bool:
        """Lock the folder, and make it if need be; False when for ``wait_s`` another did not let go.

        Raises ConfigError when the folder cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise not_writable(self.folder, error) from None
        deadline_s = time.monotonic() + wait_s
        while not _locked(fd):
            if time.monotonic() >= deadline_s:
                os.close(fd)
                return False
            time.sleep(_POLL_S)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return True

    def release(self) -> None:
        """Let go, if it was taken."""
        if self._fd is not None:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def not_writable(folder: Path, error: OSError) -> ConfigError:
    """What to raise when nothing can be kept in ``folder``."""
    return ConfigError(
        SETTING,
        f"cannot write in {folder}: {error.strerror}; name a folder that can be written, "
        "or set redis.url to an external Redis or to `memory`",
    )


def _is_there(pid: str) -> bool:
    return Path("/proc", pid).exists()


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
