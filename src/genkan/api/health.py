"""``GET /health``: how this worker has been doing, and ``GET /``: what this is."""

from functools import lru_cache

import orjson

from genkan import __version__
from genkan.api.exchange import Exchange


class Health:
    """Counts requests as they end. One per worker: the figures are those of the worker that answers."""

    def __init__(self) -> None:
        self._served = 0
        self._total_s = 0.0

    def finished(self, path: str, status: int, seconds: float) -> None:
        """Observer: generation requests count, also failed ones; lists and probes do not."""
        if _generates(path):
            self._served += 1
            self._total_s += seconds

    async def health(self, exchange: Exchange) -> None:
        average_ms = 1000 * self._total_s / self._served if self._served else 0.0
        content = {"status": "ok", "requests_served": self._served, "avg_latency_ms": round(average_ms, 3)}
        await exchange.reply(orjson.dumps(content))

    async def index(self, exchange: Exchange) -> None:
        content = {
            "name": "genkan",
            "version": __version__,
            "endpoints": [
                "/v1/chat/completions",
                "/v1/completions",
                "/v1/embeddings",
                "/v1/models",
                "/batch_predict",
                "/call",
                "/models",
                "/health",
            ],
            "probes": ["/livez", "/readyz", "/metrics"],
        }
        await exchange.reply(orjson.dumps(content))


@lru_cache(maxsize=256)
def _generates(path: str) -> bool:
    return (path.startswith("/v1/") and "models" not in path) or path == "/call"
