"""Asks upstreams at intervals whether they are well, so that it is not a request that finds out."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import aiohttp

from genkan.config import OpenAiUpstreamConfig
from genkan.errors import UpstreamError, UpstreamForbidden, UpstreamUnauthorized
from genkan.upstream.credentials import Credential
from genkan.upstream.model_list import models_answer, question_session

_JITTER = 0.1
_log = logging.getLogger("genkan.upstream")


class ProbeResult(StrEnum):
    """What one probe found."""

    HEALTHY = "healthy"  # it answered: below 500, and did not refuse the key with 401
    REFUSED_CREDENTIAL = "refused_credential"
    DOWN = "down"  # no connection, no answer in time, an answer that is not HTTP, or one of its own failures


class HealthProber:
    """Probes each upstream at once and then every ``health.interval_s``, give or take a tenth.

    The tenth keeps replicas from asking in step. ``on_result`` is called with the upstream's name after every probe, in
    the event loop. An upstream whose interval is 0 is never asked. Neither a probe nor ``on_result`` can end a loop by
    failing. ``sleep`` takes seconds and ends when the next probe is due.
    """

    def __init__(
        self,
        upstreams: Sequence[tuple[OpenAiUpstreamConfig, Credential]],
        on_result: Callable[[str, ProbeResult], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstreams = [(upstream, key) for upstream, key in upstreams if upstream.health.interval_s > 0]
        self._on_result = on_result
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to probe, in the running event loop; returns before the first result."""
        self._session = session = question_session()
        self._tasks = [
            asyncio.create_task(self._watch(session, upstream, key), name=f"probe {upstream.name}")
            for upstream, key in self._upstreams
        ]

    async def aclose(self) -> None:
        """End all probes, also those under way; no result comes after this. A second call does nothing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _watch(self, session: aiohttp.ClientSession, upstream: OpenAiUpstreamConfig, key: Credential) -> None:
        while True:
            try:
                self._on_result(upstream.name, await probe(session, upstream, key))
            except Exception:  # noqa: BLE001 - a bug here must not end the probes too
                _log.exception("the health probe of %s failed", upstream.name)
            await self._sleep(upstream.health.interval_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311


async def probe(session: aiohttp.ClientSession, upstream: OpenAiUpstreamConfig, key: Credential) -> ProbeResult:
    """Ask ``upstream`` once. Raises nothing that an upstream can cause. Cost: a connection, and no tokens.

    The body is not read, which closes the connection: the next probe finds out again whether one can be made.
    """
    try:
        async with models_answer(session, upstream, key) as response:
            return ProbeResult.HEALTHY if response.status < 500 else ProbeResult.DOWN
    except UpstreamForbidden:
        return ProbeResult.HEALTHY  # some keys may generate and not list models
    except UpstreamUnauthorized:
        return ProbeResult.REFUSED_CREDENTIAL
    except UpstreamError:
        return ProbeResult.DOWN
