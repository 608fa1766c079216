"""Several models in one process, each asked for by its name."""

import threading
from typing import Any, cast

import pytest
from fakes import WAIT_S

from genkan.errors import EngineUnavailable, ModelFileError, ModelNotFound
from genkan.serving.loading import LoadingModel
from genkan.serving.local_model import LocalModel
from genkan.serving.served_models import ServedModels
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

pytestmark = pytest.mark.anyio


def asking(model: str) -> ChatRequest:
    return ChatRequest.from_object({"model": model, "messages": [{"role": "user", "content": "Hi"}]})


class Named:
    """A model that says who it is, with some pages of one tenant."""

    def __init__(self, name: str, pages: int) -> None:
        self._name, self._pages = name, pages
        self.stopped = False

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        return Answer(body=self._name.encode())

    async def prefix_cache_snapshot(self) -> dict[str, Any]:
        return {"model": self._name}

    async def purge_prefix_cache(self, tenant: str) -> int:
        return {"t": self._pages}[tenant]

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def both() -> tuple[Named, Named]:
    return Named("m", 2), Named("n", 3)


@pytest.fixture
def served(both: tuple[Named, Named]) -> ServedModels:
    """Two models, loaded."""
    first, second = (cast("LocalModel", model) for model in both)
    loading = {"m": LoadingModel(lambda: first, "m"), "n": LoadingModel(lambda: second, "n")}
    models = ServedModels(loading)
    models.start()
    for model in loading.values():
        model._thread.join(WAIT_S)
    return models


async def test_each_is_asked_by_its_name_and_no_other_is_known(served: ServedModels) -> None:
    assert served.ready
    assert [(await served.respond(asking(name))).body for name in ("m", "n")] == [b"m", b"n"]
    with pytest.raises(ModelNotFound):
        await served.respond(asking("o"))


async def test_the_first_ones_cache_is_shown_unless_another_is_named(served: ServedModels) -> None:
    assert await served.prefix_cache_snapshot() == {"models": ["m", "n"], "model": "m"}
    assert await served.prefix_cache_snapshot("n") == {"models": ["m", "n"], "model": "n"}
    with pytest.raises(ModelNotFound):
        await served.prefix_cache_snapshot("o")


async def test_a_tenant_is_purged_in_all_or_in_one(served: ServedModels) -> None:
    assert await served.purge_prefix_cache("t") == 5
    assert await served.purge_prefix_cache("t", "n") == 3


async def test_one_that_still_loads_keeps_the_process_from_being_ready_but_not_the_other_from_answering(
    both: tuple[Named, Named],
) -> None:
    may_load = threading.Event()

    def load() -> LocalModel:
        assert may_load.wait(WAIT_S)
        return cast("LocalModel", both[1])

    first = LoadingModel(lambda: cast("LocalModel", both[0]), "m")
    second = LoadingModel(load, "n")
    models = ServedModels({"m": first, "n": second})
    models.start()
    first._thread.join(WAIT_S)
    assert not models.ready
    assert (await models.respond(asking("m"))).body == b"m"
    with pytest.raises(EngineUnavailable, match="is loading n"):
        await models.respond(asking("n"))
    may_load.set()
    second._thread.join(WAIT_S)
    assert models.ready


async def test_a_model_that_cannot_be_loaded_does_not_keep_a_tenants_pages_in_the_others(
    both: tuple[Named, Named],
) -> None:
    def load() -> LocalModel:
        raise ModelFileError("damaged")

    broken, sound = LoadingModel(load, "m"), LoadingModel(lambda: cast("LocalModel", both[1]), "n")
    models = ServedModels({"m": broken, "n": sound})
    with pytest.raises(EngineUnavailable):
        await models.purge_prefix_cache("t")  # none is there
    models.start()
    for model in (broken, sound):
        model._thread.join(WAIT_S)
    assert await models.purge_prefix_cache("t") == 3
    with pytest.raises(EngineUnavailable, match="cannot load"):
        await models.purge_prefix_cache("t", "m")


def test_stopping_stops_all(served: ServedModels, both: tuple[Named, Named]) -> None:
    served.stop()
    assert [model.stopped for model in both] == [True, True]
