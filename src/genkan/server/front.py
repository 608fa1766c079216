"""Our ASGI application in front of BentoML's, inside BentoML's server.

BentoML starts the processes, probes them and collects their metrics. Its request stack is not on our path: it keeps a
timer per request for the whole timeout, hangs when the application raises before its first byte, cannot answer with
OpenAI's errors, and costs more than half of the throughput. So ``to_asgi`` of a service declared with
``service_class=FrontedService`` returns a front that hands BentoML its own paths and its lifespan, and everything
else to the application of the service instance. What BentoML's stack did and this bypasses is done by `api/routes.py`:
errors, metrics, the access log.
"""

import asyncio
import ctypes
import gc
import logging
import os
import signal
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

import bentoml
from _bentoml_sdk.service import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.marshal.dispatcher import Optimizer
from starlette.requests import Request

from genkan.api.exchange import Message, Receive, Scope, Send, new_request_id
from genkan.api.routes import BENTOML_PATHS
from genkan.app import Asgi
from genkan.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger("genkan.server.front")
_METRICS_PATH = "/metrics"
_PR_SET_PDEATHSIG = 1
_PARENT_VARIABLE = "GENKAN_SERVER_PID"
_YOUNG_OBJECTS = 50_000  # more than 300 requests under way are made of: they live on, so to look at them is in vain


class Front:
    """Chooses between BentoML's application and ours, request by request."""

    def __init__(self, bento: Any) -> None:
        self._bento = bento
        self._ours: Asgi | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bento, name)  # BentoML treats what to_asgi returns as a Starlette application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan" or (
            kind == "http" and scope["path"] in BENTOML_PATHS and scope["method"] in ("GET", "HEAD")
        ):
            if kind == "http" and scope["path"] == _METRICS_PATH:
                bentoml.get_current_service().process.flush_metrics()
            await self._bento(scope, receive, send if kind == "lifespan" else _with_request_id(send))
            return
        if self._ours is None:
            self._ours = self._application()
        try:
            await self._ours(scope, receive, send)
        except asyncio.CancelledError:
            # Its grace is over, the client was told so, and uvicorn, which cancels for nothing else, would log a bug.
            _log.info("a request outlasted the grace of a server that stops")

    def _application(self) -> Asgi:
        asgi: Asgi = bentoml.get_current_service().process.asgi
        return asgi


def _with_request_id(send: Send) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", new_request_id().encode())]
        await send(message)

    return send_with_id


class FrontedService(Service[T]):
    """A BentoML service whose instance has a ``process`` with an ``asgi`` application and ``flush_metrics``."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        return Front(super().to_asgi(is_main=is_main))


class BatchingFront(Front):
    """A front whose application passes requests on to BentoML's batched methods, and to nothing else of its stack.

    Their router is called as BentoML's innermost middleware would: without its metrics, its access log, its tracing
    and its timer for each request.
    """

    def __init__(self, bento: Any, service: Service[Any]) -> None:
        super().__init__(bento)
        self._service = service

    def _application(self) -> Asgi:
        application: Asgi = bentoml.get_current_service().process.door(self._methods)
        return application

    async def _methods(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        with self._service.context.in_request(Request(scope, receive, send)):
            await self._bento.router(scope, receive, send)


class BatchingService(FrontedService[T]):
    """A BentoML service with batched methods, whose instance has a ``process`` with a ``door`` in front of them."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        batch_without_waiting()
        return BatchingFront(Service.to_asgi(self, is_main=is_main), self)


def batch_without_waiting() -> None:
    """Have BentoML's dispatchers hold no request back for others that might come, in this process, from now on.

    While a batch is computed requests gather by themselves. What the dispatcher adds is to hold the first one back for
    0.95 of ``Optimizer.wait``: the mean time that requests waited lately, which after a burst is the time they stood
    in the queue. So a single short text took 80 ms instead of 10 after a burst, for minutes: the mean forgets slowly,
    and is kept up by its own waiting. Here it is always 0.
    """
    Optimizer.wait = property(lambda _: 0.0, lambda _, learned: None)


def socket_path(service: Service[Any]) -> str:
    """The Unix socket on which BentoML serves a dependency of this worker's service.

    Raises ConfigError when there is none, as in ``bentoml serve --development``, which runs all in one process.
    """
    url = BentoMLContainer.remote_runner_mapping.get().get(service.name, "")
    parsed = urlparse(url)
    if parsed.scheme != "file":
        raise ConfigError(
            "", f"genkan needs {service.name} on a Unix socket of its own; BentoML gave {url or 'none'!r}"
        )
    return unquote(parsed.path)


def collect_less() -> None:
    """Take what is loaded by now out of the garbage collector's sight, and have it look at the rest less often.

    BentoML's modules and ours are hundreds of thousands of objects that live as long as the process. To go through them
    holds up every stream, for 50 ms and more; and a request leaves hardly any cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the server that started it is gone, however it went.

    Without it, workers outlive a killed server and keep its port. One that is gone already, while this process was
    still importing, is known by its id, which ``name_parent`` left in the environment: then the signal is sent here.
    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = os.environ.get(_PARENT_VARIABLE)
    if parent is not None and int(parent) != os.getppid():
        os.kill(os.getpid(), signal.SIGTERM)


def name_parent() -> None:
    """In the server, before it starts workers: what ``end_with_parent`` needs to know of it."""
    os.environ[_PARENT_VARIABLE] = str(os.getpid())
