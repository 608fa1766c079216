"""A Responder that is still loading: says so until it is there, then passes everything on."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from genkan.errors import EngineUnavailable, ModelFileError
from genkan.upstream.base import Answer
from genkan.upstream.token_count import TokenCount
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest

if TYPE_CHECKING:
    from genkan.serving.local_model import LocalModel  # brings torch in, which takes a second: only while loading

_log = logging.getLogger("genkan.engine")


class LoadingModel:
    """Loads a model in a thread of its own, so that readiness is answered at once meanwhile."""

    def __init__(self, load: "Callable[[], LocalModel]", name: str = "its model") -> None:
        """``load`` blocks for seconds and returns a model that has already answered one token; ``name`` is for logs."""
        self._load = load
        self._name = name
        self._model: LocalModel | None = None
        self._failure: str | None = None
        self._stopped = False
        self._handover = threading.Lock()  # between the loading thread and stop()
        self._thread = threading.Thread(target=self._run, name="engine-load", daemon=True)

    def start(self) -> None:
        """Begin to load. Returns at once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self._model is not None

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises EngineUnavailable until the model is there, and for ever when it cannot be loaded."""
        return await self._loaded().respond(request, caller)

    async def count_tokens(self, request: GenerationRequest) -> TokenCount:
        """See LocalModel. Raises EngineUnavailable until the model is there."""
        return await self._loaded().count_tokens(request)

    async def prefix_cache_snapshot(self) -> dict[str, Any]:
        """See LocalModel. Raises EngineUnavailable until the model is there."""
        return await self._loaded().prefix_cache_snapshot()

    async def purge_prefix_cache(self, tenant: str) -> int:
        """See LocalModel. Raises EngineUnavailable until the model is there."""
        return await self._loaded().purge_prefix_cache(tenant)

    def _loaded(self) -> "LocalModel":
        if self._model is None:
            raise EngineUnavailable(self._failure or f"The engine is loading {self._name}; try again in a few seconds.")
        return self._model

    def stop(self) -> None:
        """Stop the model; one that is still loading stops as soon as it has loaded."""
        with self._handover:
            self._stopped = True
            if self._model is not None:
                self._model.stop()

    def _run(self) -> None:
        began = time.monotonic()
        _log.info("the engine is loading %s", self._name)
        try:
            self._hand_over(self._load())
        except ModelFileError as error:
            self._fail()
            _log.error("%s cannot be loaded: %s", self._name, error)
        except BaseException:  # noqa: BLE001 - nobody waits for this thread; requests are told
            self._fail()
            _log.exception("%s cannot be loaded", self._name)
        else:
            _log.info("%s is ready after %.1f s", self._name, time.monotonic() - began)

    def _fail(self) -> None:
        """What requests are told has no paths of the server's."""
        self._failure = f"The engine cannot load {self._name}; the server's log says why."

    def _hand_over(self, model: "LocalModel") -> None:
        with self._handover:
            if self._stopped:
                model.stop()
            else:
                self._model = model
