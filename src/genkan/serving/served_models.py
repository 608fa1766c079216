"""The models of one Engine process, by the names they are asked for."""

from collections.abc import Mapping
from typing import Any

from genkan.errors import ModelNotFound
from genkan.serving.loading import LoadingModel
from genkan.upstream.base import Answer
from genkan.upstream.token_count import TokenCount
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest


class ServedModels:
    """A Responder over several models, each with an engine of its own."""

    def __init__(self, models: Mapping[str, LoadingModel]) -> None:
        """At least one; the first is the one that is shown where none is named."""
        self._models = dict(models)

    def start(self) -> None:
        """Begin to load them all. Returns at once."""
        for model in self._models.values():
            model.start()

    @property
    def ready(self) -> bool:
        return all(model.ready for model in self._models.values())

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises ModelNotFound, and EngineUnavailable until the model is there."""
        return await self._model(request.model).respond(request, caller)

    async def count_tokens(self, request: GenerationRequest) -> TokenCount:
        """See LocalModel. Raises ModelNotFound, and EngineUnavailable until the model is there."""
        return await self._model(request.model).count_tokens(request)

    async def prefix_cache_snapshot(self, model: str | None = None) -> dict[str, Any]:
        """See LocalModel; with the names of all ``models``. Raises ModelNotFound and EngineUnavailable."""
        name = next(iter(self._models)) if model is None else model
        return {"models": list(self._models), **await self._model(name).prefix_cache_snapshot()}

    async def purge_prefix_cache(self, tenant: str, model: str | None = None) -> int:
        """Drop all pages of ``tenant``, in one model or in all; how many they were. Raises as above.

        Of all, one that has not loaded has no pages, and is left out unless it is the same with every one.
        """
        everyone = list(self._models.values())
        loaded = [each for each in everyone if each.ready] or everyone
        models = loaded if model is None else [self._model(model)]
        return sum([await each.purge_prefix_cache(tenant) for each in models])

    def stop(self) -> None:
        """Stop them all, whether they have loaded or not."""
        for model in self._models.values():
            model.stop()

    def _model(self, name: str) -> LoadingModel:
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(name)
        return model
