"""The embedder's process: the model, and the door in front of BentoML's batches."""

import base64
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genkan.api.routes import Api
from genkan.config import EmbedderConfig
from genkan.embedding.backlog import Backlog, EmbedderObserver, NobodyWatches
from genkan.embedding.endpoint import Methods, door
from genkan.errors import EngineUnavailable, ModelFileError

if TYPE_CHECKING:
    from genkan.embedding.embedder import Embedder  # brings torch in, which takes a second: only while loading

_log = logging.getLogger("genkan.embedder")
_FAILURE = "The embedder cannot load its model; the server's log says why."


class EmbedderProcess:
    """Loads the model in a thread of its own, so that readiness is answered at once meanwhile."""

    def __init__(self, config: EmbedderConfig, observer: EmbedderObserver | None = None) -> None:
        self._config = config
        self._observer = observer or NobodyWatches()
        self._embedder: Embedder | None = None
        self._failure: str | None = None
        self.backlog = Backlog(config.max_queue, self._observer)
        self._thread = threading.Thread(target=self._run, name="embedder-load", daemon=True)

    async def start(self) -> None:
        """Begin to load. Returns at once."""
        self._thread.start()

    async def aclose(self) -> None:
        """Nothing is held that the process's end does not give back."""

    @property
    def ready(self) -> bool:
        return self._embedder is not None

    def check_ready(self) -> None:
        """Raises EngineUnavailable until the model is there, and for ever when it cannot be loaded."""
        if self._embedder is None:
            raise EngineUnavailable(self._failure or "The embedder is loading its model; try again in a few seconds.")

    def door(self, methods: Methods) -> Api:
        """The application that answers requests, in front of BentoML's ``methods``."""
        return door(self, methods)

    def flush_metrics(self) -> None:
        """BentoML's own are written as they change."""

    def compute(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Of each text its ``tokens`` and its ``vector``, base64 of little-endian float32; '' if it is too long.

        Called by BentoML with a batch, from one thread at a time.
        """
        assert self._embedder is not None, "the door lets nothing in before"
        began_s = time.monotonic()
        items = [
            {"tokens": tokens, "vector": "" if vector is None else _encoded(vector)}
            for tokens, vector in self._embedder.items(texts)
        ]
        seconds = time.monotonic() - began_s
        self.backlog.computed(sum(len(text.encode()) for text in texts), seconds)
        self._observer.computed(len(texts), seconds)
        return items

    def _run(self) -> None:
        began_s = time.monotonic()
        try:
            import torch

            from genkan.embedding.embedder import Embedder

            torch.set_num_threads(1)  # of this thread: more would wait for each other while the engine loads as well
            self._embedder = Embedder.load(self._config)
        except ModelFileError as error:
            self._failure = _FAILURE
            _log.error("the embedder's model cannot be loaded: %s", error)
        except Exception:  # noqa: BLE001 - nobody waits for this thread; requests are told
            self._failure = _FAILURE
            _log.exception("the embedder's model cannot be loaded")
        else:
            _log.info("the embedder is ready after %.1f s", time.monotonic() - began_s)


def _encoded(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
