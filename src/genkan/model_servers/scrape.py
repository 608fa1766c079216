"""What the model servers say of themselves, fetched when somebody asks for our metrics."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from genkan.config import OpenAiUpstreamConfig
from genkan.model_servers.metrics_text import merged
from genkan.upstream.dialers import TcpDialer
from genkan.upstream.http_client import HttpClient, HttpError

TIMEOUT_S: Final = 1.0
MAX_BYTES: Final = 4 << 20
_log = logging.getLogger("genkan.model_servers")


class ServerScraper:
    """Asks every server of ours for ``GET /metrics``. Whoever has one calls ``aclose`` at the end."""

    def __init__(self, upstreams: Sequence[OpenAiUpstreamConfig], *, timeout_s: float = TIMEOUT_S) -> None:
        self._sources = [_Source(upstream) for upstream in upstreams if upstream.serve is not None]
        self._timeout_s = timeout_s

    async def text(self) -> str:
        """Their metrics as one text, of those that answer within ``timeout_s`` and with at most 4 MiB; raises nothing.

        All are asked at once, so that however many are dead it takes no longer than that.
        """
        if not self._sources:
            return ""
        texts = await asyncio.gather(*(source.text(self._timeout_s) for source in self._sources))
        return merged({source.name: text for source, text in zip(self._sources, texts, strict=True)})

    async def aclose(self) -> None:
        """Close every connection."""
        for source in self._sources:
            source.client.close()


class _Source:
    def __init__(self, upstream: OpenAiUpstreamConfig) -> None:
        self.name = upstream.name
        self.client = HttpClient(TcpDialer(upstream.base_url), connect_s=TIMEOUT_S, keep_alive=0, keep_alive_s=1.0)
        host = upstream.base_url.removeprefix("http://").partition("/")[0]
        self._message = (
            f"GET /metrics HTTP/1.1\r\nhost: {host}\r\naccept: text/plain\r\naccept-encoding: identity\r\n"
            "connection: close\r\n\r\n"
        ).encode("ascii")
        self._is_too_large = False  # and that was said

    async def text(self, timeout_s: float) -> str:
        body = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                response = await self.client.request(self._message)
                try:
                    while response.status == 200 and (piece := await response.read()):
                        body += piece
                        if len(body) > MAX_BYTES:
                            self._say_too_large()
                            return ""
                finally:
                    response.close()
        except (HttpError, OSError, TimeoutError):
            return ""
        return body.decode(errors="replace")

    def _say_too_large(self) -> None:
        if not self._is_too_large:
            self._is_too_large = True
            _log.warning("the metrics of %s are left out: they have more than %d bytes", self.name, MAX_BYTES)
