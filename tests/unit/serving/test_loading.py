"""A model that is still loading, is there, or cannot be loaded."""

import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from fakes import WAIT_S

from genkan.errors import EngineUnavailable, ModelFileError
from genkan.serving.loading import LoadingModel
from genkan.serving.local_model import LocalModel
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

pytestmark = pytest.mark.anyio

REQUEST = ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})


class LoadedModel:
    """What a load gives."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.stopped = 0

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        self.requests.append(request)
        return Answer(body=b"{}")

    async def prefix_cache_snapshot(self) -> dict[str, Any]:
        return {"pages": 7}

    async def purge_prefix_cache(self, tenant: str) -> int:
        return {"local": 7}[tenant]

    def stop(self) -> None:
        self.stopped += 1


def loading(load: Callable[[], LoadedModel]) -> LoadingModel:
    return LoadingModel(cast("Callable[[], LocalModel]", load))


def wait_for(model: LoadingModel) -> None:
    """Until the load has ended, well or not."""
    model._thread.join(WAIT_S)
    assert not model._thread.is_alive()


def loaded(load: Callable[[], LoadedModel]) -> LoadingModel:
    model = loading(load)
    model.start()
    wait_for(model)
    return model


def failing(error: Exception) -> Callable[[], LoadedModel]:
    def load() -> LoadedModel:
        raise error

    return load


async def refuses_everything(model: LoadingModel, match: str) -> None:
    for attempt in (
        model.respond(REQUEST),
        model.prefix_cache_snapshot(),
        model.purge_prefix_cache("local"),
    ):
        with pytest.raises(EngineUnavailable, match=match) as caught:
            await attempt
        assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)


async def test_a_model_that_loads_says_so_and_is_not_ready() -> None:
    go_on, inner = threading.Event(), LoadedModel()

    def load() -> LoadedModel:
        assert go_on.wait(WAIT_S)
        return inner

    model = loading(load)
    model.start()
    try:
        ready_before = model.ready
        await refuses_everything(model, "loading its model")
    finally:
        go_on.set()
        wait_for(model)
    assert (ready_before, model.ready) == (False, True)
    assert inner.requests == []


async def test_a_model_that_was_never_started_does_not_load() -> None:
    model = loading(failing(AssertionError("nobody asked for it")))
    assert not model.ready
    await refuses_everything(model, "loading its model")


async def test_a_loaded_model_gets_the_requests() -> None:
    inner = LoadedModel()
    model = loaded(lambda: inner)
    assert model.ready
    assert (await model.respond(REQUEST)).body == b"{}"
    assert inner.requests == [REQUEST]


async def test_a_loaded_model_is_asked_about_its_prefix_cache() -> None:
    model = loaded(LoadedModel)
    assert await model.prefix_cache_snapshot() == {"pages": 7}
    assert await model.purge_prefix_cache("local") == 7


async def test_a_file_that_cannot_be_served_is_named_in_the_log_and_to_no_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "genkan.engine"):
        model = loaded(failing(ModelFileError("there is no model file /srv/m.gguf")))
    assert not model.ready
    for _ in range(2):
        await refuses_everything(model, r"cannot load its model; the server's log says why\.$")
    assert "there is no model file /srv/m.gguf" in caplog.text


async def test_any_other_failure_is_told_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "genkan.engine"):
        model = loaded(failing(MemoryError("a secret that is no client's business")))
    assert not model.ready
    with pytest.raises(EngineUnavailable, match="the server's log says why") as caught:
        await model.respond(REQUEST)
    assert "secret" not in caught.value.message
    assert "secret" in caplog.text


def test_stop_ends_a_loaded_model() -> None:
    inner = LoadedModel()
    loaded(lambda: inner).stop()
    assert inner.stopped == 1


def test_a_model_that_failed_to_load_can_be_stopped() -> None:
    model = loaded(failing(ModelFileError("gone")))
    model.stop()
    assert not model.ready


def test_a_model_that_loads_while_it_is_stopped_ends_at_once() -> None:
    loaded, go_on = LoadedModel(), threading.Event()

    def load() -> LoadedModel:
        assert go_on.wait(WAIT_S)
        return loaded

    model = loading(load)
    model.start()
    model.stop()
    go_on.set()
    model._thread.join(WAIT_S)
    assert (loaded.stopped, model.ready) == (1, False)
