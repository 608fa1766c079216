"""A batched method behind our door: BentoML's own router and dispatcher, and nothing else of its stack."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import bentoml
import orjson
import pytest
from asgi import AsgiClient
from bentoml._internal.marshal.dispatcher import CorkDispatcher

from genkan.api.routes import Api
from genkan.embedding.backlog import Backlog
from genkan.embedding.endpoint import Methods, door
from genkan.errors import EngineUnavailable
from genkan.server.front import BatchingFront, BatchingService, batch_without_waiting

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute"),  # BentoML's own, at every request
]

JSON = b"application/json"


class Process:
    """Gives back what it gets, and keeps the batches it got."""

    def __init__(self) -> None:
        self.backlog = Backlog(64)
        self.batches: list[list[str]] = []
        self.is_ready = True
        self.compute: Callable[[list[str]], list[str]] = lambda texts: texts
        self.take_s = 0.0

    def door(self, methods: Methods) -> Api:
        return door(self, methods)

    def check_ready(self) -> None:
        if not self.is_ready:
            raise EngineUnavailable("not yet")

    def flush_metrics(self) -> None:
        pass


@bentoml.service(name="echoes", service_class=BatchingService, metrics={"enabled": False})
class Batching:
    def __init__(self) -> None:
        self.process = Process()

    @bentoml.api(route="/embed", batchable=True, max_batch_size=8, max_latency_ms=600_000)  # type: ignore[untyped-decorator]
    def embed(self, texts: list[str]) -> list[str]:
        self.process.batches.append(texts)
        time.sleep(self.process.take_s)  # as a model does: in BentoML's thread
        return self.process.compute(texts)


@asynccontextmanager
async def running() -> AsyncGenerator[tuple[BatchingFront, Process], None]:
    front = Batching.to_asgi()  # type: ignore[attr-defined]
    assert isinstance(front, BatchingFront)
    async with front.router.lifespan_context(front._bento):
        yield front, bentoml.get_current_service().process


def asked(front: BatchingFront, *texts: str, patience_ms: int = 10_000) -> Coroutine[Any, Any, AsgiClient]:
    headers = [(b"content-type", JSON), (b"x-genkan-patience-ms", b"%d" % patience_ms)]
    return AsgiClient(front).request("POST", "/embed", [orjson.dumps({"texts": texts})], headers)


async def test_a_batched_method_answers_in_json() -> None:
    async with running() as (front, _):
        client = await asked(front, "a", "ü")
        assert (client.status, orjson.loads(client.body)) == (200, ["a", "ü"])


async def test_requests_that_come_together_are_one_batch_and_each_gets_its_own() -> None:
    async with running() as (front, process):
        for _ in range(12):  # until the dispatcher has measured what it wants to
            await asked(front, "a")
        process.batches.clear()
        process.take_s = 0.02
        clients = await asyncio.gather(*(asked(front, f"{number}", f"{number}!") for number in range(30)))
        assert [orjson.loads(each.body) for each in clients] == [[f"{number}", f"{number}!"] for number in range(30)]
        assert max(map(len, process.batches)) == 8
        assert len(process.batches) <= 10


async def test_the_line_is_bounded_and_those_outside_are_told_when_to_come_back() -> None:
    async with running() as (front, process):
        process.backlog = Backlog(3)
        front._ours = None
        process.take_s = 0.02
        clients = await asyncio.gather(*(asked(front, "a") for _ in range(10)))
        refused = [client for client in clients if client.status == 503]
        assert len(refused) == 7
        assert refused[0].error["code"] == "server_is_overloaded"
        assert refused[0].headers["retry-after"] == "5"
        assert (await asked(front, "a")).status == 200


async def test_one_that_would_come_too_late_is_refused_at_once() -> None:
    async with running() as (front, process):
        process.backlog.computed(1000, 10.0)
        process.take_s = 0.02
        first, second = await asyncio.gather(asked(front, "a"), asked(front, "b", patience_ms=50))
        assert (first.status, second.status) == (200, 503)


async def test_nothing_comes_in_before_the_model_is_there() -> None:
    async with running() as (front, process):
        process.is_ready = False
        assert (await asked(front, "a")).error["code"] == "engine_unavailable"
        assert process.batches == []


@pytest.mark.parametrize("body", [b"{}", b'{"texts": "a"}', b'{"texts": [1]}', b"[", b'{"texts": ["\\ud800"]}'])
async def test_a_wrong_body_is_refused_in_openais_shape(body: bytes) -> None:
    async with running() as (front, process):
        client = await AsgiClient(front).request("POST", "/embed", [body])
        assert (client.status, client.error["type"]) == (400, "invalid_request_error")
        assert process.batches == []


async def test_pickle_is_not_taken() -> None:
    async with running() as (front, _):
        headers = [(b"content-type", b"application/vnd.bentoml+pickle")]
        assert (await AsgiClient(front).request("POST", "/embed", [b"cos\nsystem\n."], headers)).status == 415


async def test_a_batch_that_breaks_is_an_error_of_ours_and_leaves_the_line() -> None:
    async with running() as (front, process):
        process.compute = lambda texts: [texts[1 << 40]]
        client = await asked(front, "a")
        assert (client.status, client.error["code"]) == (500, "engine_error")
        assert process.backlog.requests == 0
        process.compute = lambda texts: texts
        assert (await asked(front, "a")).status == 200


async def test_a_single_request_does_not_wait_however_long_others_stood_in_line() -> None:
    """Without ``batch_without_waiting`` it would be held back for 0.95 of a minute."""
    batch_without_waiting()
    dispatcher: Any = CorkDispatcher(600_000, 8, fallback=lambda: None, get_batch_size=lambda _: 1)

    async def compute(batch: Any) -> Any:
        return batch

    call = dispatcher(compute)
    for number in range(12):  # its training
        await call(number)
    for _ in range(50):
        dispatcher.optimizer.log_outbound(8, 60.0, 0.01)  # a burst, whose requests stood in line for a minute
    dispatcher.optimizer.trigger_refresh()
    try:
        assert await asyncio.wait_for(call("alone"), timeout=5) == "alone"
    finally:
        dispatcher.shutdown()


def test_what_a_dispatcher_learns_does_not_make_it_wait() -> None:
    batch_without_waiting()
    dispatcher: Any = CorkDispatcher(600_000, 8, fallback=lambda: None)
    dispatcher.optimizer.wait = 3.0
    assert dispatcher.optimizer.wait == 0
