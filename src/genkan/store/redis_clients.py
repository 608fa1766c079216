"""What clients of a `RateLimiter` have taken, on Redis: shared by all processes that use it. Loads redis-py."""

import hashlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from redis import BlockingConnectionPool, Redis, RedisError, ResponseError
from redis import TimeoutError as TimedOut
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from genkan.errors import StoreLost, StoreRefused, StoreTimeout
from genkan.store.account_commands import AMOUNTS, LINE
from genkan.store.accounts import Line, LineState
from genkan.store.command import Argument, Script

_CALL_S = 0.1
_CONNECTIONS = 32
_WAIT_S = 1.0  # of a thread, for one of them


class RedisClients:
    """One line for each client, under ``prefix`` and a hash of its id. For any number of threads.

    All raise StoreError. Nothing is tried twice, but that a Redis that does not know a script is told it.
    """

    def __init__(self, line: Line, url: str, prefix: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_WAIT_S,
            socket_timeout=_CALL_S,
            socket_connect_timeout=_CALL_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = Redis(connection_pool=pool)
        self._prefix = prefix
        self._line = line
        self._most = line.burst if line.kind == "bucket" else line.limit
        self._admit, self._read = Script.load("admit"), Script.load("read")

    def take(self, client_id: str, cost: int) -> bool:
        # The first three keys are about the drafts of requests. Without a draft they are not used, but have to be of
        # the same slot for a Redis cluster.
        keys = [self._key(client_id)] * 4
        hold_ms, request_id, draft = 0, secrets.token_hex(8), b""
        args = (self._packed(self._most), hold_ms, request_id, AMOUNTS.pack(cost, 0, 0, 0), draft)
        return self._run(self._admit, keys, args)[0] == 0

    def state(self, client_id: str, cost: int) -> LineState:
        # When ``cost`` fits a line is when nothing fits one that has so much less to give.
        keys = [self._key(client_id)] * 2
        args = (self._packed(self._most) + self._packed(self._most - cost),)
        remaining, _, reset_us, _, retry_us, _ = self._run(self._read, keys, args)
        return LineState(remaining, -1 if cost > self._most else retry_us, reset_us)

    def forget(self, client_id: str) -> None:
        with _store_errors():
            self._redis.delete(self._key(client_id))

    def prune(self) -> int:
        return 0

    def count(self) -> None:
        return None

    def close(self) -> None:
        self._redis.close()

    def _packed(self, most: int) -> bytes:
        """The line as the scripts take it, but with ``most`` to give at once."""
        if self._line.kind == "bucket":
            return LINE.pack(b"b", 1, most, self._line.window_s * 1e6 / self._line.limit)
        return LINE.pack(b"w", 1, most, round(self._line.window_s * 1e6))

    def _key(self, client_id: str) -> str:
        digest = hashlib.blake2b(client_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        # A bucket's has an ending, as earlier versions kept it as text under the name without.
        return f"{self._prefix}:{digest}:gcra" if self._line.kind == "bucket" else f"{self._prefix}:{digest}"

    def _run(self, script: Script, keys: list[str], args: tuple[Argument, ...]) -> list[int]:
        with _store_errors():
            try:
                reply = self._redis.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                reply = self._redis.eval(script.text, len(keys), *keys, *args)
        return cast("list[int]", reply)


@contextmanager
def _store_errors() -> Generator[None, None, None]:
    """redis-py's errors as ours."""
    try:
        yield
    except TimedOut as error:
        raise StoreTimeout(str(error)) from error
    except ResponseError as error:
        raise StoreRefused(str(error)) from error
    except RedisError as error:
        raise StoreLost(str(error)) from error
