"""Keeps the embedded Redis running: the thread that starts it, and again whenever it dies."""

import logging
import threading
import time
from concurrent.futures import Future
from typing import Final

from genkan.errors import ConfigError
from genkan.store.redis_process import RedisProcess

_LOG = logging.getLogger(__name__)

_BACK_OFF_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 5.0
_STEADY_S: Final = 10.0  # who lives longer is started again without delay


class RedisSupervisor:
    """``start`` once, ``stop`` at the end. Every start is the same thread's, for the kernel ends Redis with it."""

    def __init__(self, redis: RedisProcess) -> None:
        self._redis = redis
        self._is_stopping = threading.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="redis-supervisor", daemon=True)

    def start(self) -> None:
        """Returns when Redis answers; raises what ``RedisProcess.start`` does."""
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Returns when Redis has ended for good."""
        self._is_stopping.set()
        self._redis.end()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._redis.start()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the one who waits
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        back_off_s = 0.0
        while True:
            began_s = time.monotonic()
            self._redis.wait()
            if self._is_stopping.is_set():
                return
            if time.monotonic() - began_s > _STEADY_S:
                back_off_s = 0.0
            back_off_s = self._start_again(back_off_s)

    def _start_again(self, back_off_s: float) -> float:
        """Until it answers or is no longer wanted; how long was waited last."""
        _LOG.error("the embedded Redis has died; starting it again")
        has_said_why = False
        while True:
            back_off_s = min(max(_BACK_OFF_S, 2 * back_off_s), _BACK_OFF_MAX_S)
            if self._is_stopping.wait(back_off_s):
                return back_off_s
            try:
                self._redis.start()
            except (ConfigError, OSError) as error:
                if not has_said_why and not self._is_stopping.is_set():
                    _LOG.error("%s; trying again and again", error)
                has_said_why = True
            else:
                _LOG.warning("the embedded Redis is back")
                return back_off_s
