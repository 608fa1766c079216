"""What we do otherwise than BentoML's arbiter, the process that starts the workers and ends them.

* **It stops in order.** BentoML sends SIGTERM to all at once and removes the sockets of its services first: a request
  under way then finds the engine gone. And it keeps the port open behind workers that do not accept any more, so that
  clients wait for an answer until the last stream has ended. Here the flag of `drain.py` is set; for `linger_s` all is
  served as before; then the port is closed, so that who comes is refused at once and goes elsewhere; the gateway stops,
  where what is under way has its grace; and only then the engine and the embedder do.
* **It replaces workers that die within a second or two, in containers too.** BentoML looks every ten seconds, and in a
  container never replaces one: the others serve on with less, until the last has died. One that keeps dying is started
  as often as BentoML does, every ten seconds.

Source: BentoML 1.4.39, `bentoml/serving.py`, `bentoml/_internal/utils/circus`; circus 0.19, `Arbiter`, `Watcher`;
shutdown(2): a listening socket that was shut down listens in no process any more.
"""

import atexit
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Generator, MutableMapping
from pathlib import Path
from typing import Any

from bentoml._internal.utils import circus
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING
from tornado import gen

from genkan.config import Config
from genkan.config.drain import DrainConfig
from genkan.server.drain import FILE_VARIABLE, DrainPage, linger_left_s, now_unix_s, page_path
from genkan.server.respawns import RespawnPace

CHECK_S = 1.0
#: After its grace a worker has this long to say so to its clients, to settle, and to write its books.
LAST_WORDS_S = 15.0

_ENTRY = "service"  # BentoML's name for the workers of the service that it was told to serve
_PORT = "_bento_api_server"
_POLL_S = 0.05
_log = logging.getLogger("genkan.server.arbiter")


def lead(config: Config, environ: MutableMapping[str, str]) -> None:
    """In the server, before it starts workers: make its page, tell them by ``environ`` where it is, and `install`.

    Where the data folder cannot be written the page lies where only workers and ``POST /admin/drain`` find it. Raises
    OSError where that cannot be written either, or where ``GENKAN_DRAIN_FILE`` is set and it cannot be made there.
    """
    told = environ.get(FILE_VARIABLE)
    path = Path(told) if told else page_path(Path(config.redis.data_dir))
    try:
        page = DrainPage.create(path)
    except OSError as error:
        if told:
            raise
        path = Path(tempfile.mkdtemp(prefix="genkan-drain-")) / path.name
        page = DrainPage.create(path)
        _log.warning("`genkan drain` will not find this server (%s); set %s", error, FILE_VARIABLE)
    atexit.register(page.close)
    environ[FILE_VARIABLE] = str(path)
    install(page, config.server.drain)


def install(page: DrainPage, drain: DrainConfig) -> None:
    """The next arbiter that BentoML makes in this process is ours."""

    class Ours(OrderlyArbiter):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, page=page, drain=drain, **kwargs)

    circus.Arbiter = Ours


class OrderlyArbiter(circus.Arbiter):
    """BentoML's, as described above."""

    def __init__(
        self,
        watchers: list[Any],
        *args: Any,
        page: DrainPage,
        drain: DrainConfig,
        clock: Callable[[], float] = time.monotonic,
        **kwargs: Any,
    ) -> None:
        super().__init__(watchers, *args, **{**kwargs, "check_delay": CHECK_S})
        self._page = page
        self._drain = drain
        self._pace = RespawnPace(clock)
        self._end: Any = None
        for watcher in watchers:
            watcher.respawn = True
            watcher.graceful_timeout = drain.grace_s + LAST_WORDS_S

    def manage_watchers(self) -> Any:
        """Replace the dead. Called every second."""
        if self._exclusive_running_command is not None:  # circus would raise, and have a traceback logged
            return None
        if not self._pace.is_due(sum(_dead(watcher) for watcher in self.watchers)):
            return None
        return super().manage_watchers()

    def stop(self) -> Any:
        """Stop in order. Asked twice, it stops once."""
        if self._end is None:
            self._end = self._stop_in_order()
        return self._end

    @gen.coroutine
    def _stop_in_order(self) -> Generator[Any, Any, None]:
        self._stopping = True  # from here on nobody is replaced
        now_s = now_unix_s()
        linger_s = linger_left_s(self._page, self._drain.linger_s, now_s)
        self._page.begin(now_s)
        if linger_s:
            _log.info("stopping in %.1f s", linger_s)
            yield gen.sleep(linger_s)
        while self._exclusive_running_command is not None:  # workers are being started this moment
            yield gen.sleep(_POLL_S)
        self._refuse()
        for watcher in self.watchers:
            if watcher.name == _ENTRY:
                yield watcher._stop()
        yield super().stop()

    def _refuse(self) -> None:
        port = self.sockets.get(_PORT)
        if port is not None:
            try:
                port.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _log.warning("the port could not be closed: %s", error)


def _dead(watcher: Any) -> int:
    return sum(process.status in (DEAD_OR_ZOMBIE, UNEXISTING) for process in watcher.processes.values())
