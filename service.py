"""The BentoML services: what `bentoml serve`, `bentoml build` and the Bento start. Thin; `genkan.app` has the parts."""

from typing import Any

import bentoml

from genkan.app import EngineProcess, GatewayProcess
from genkan.config import config_path, load
from genkan.front import FrontedService, end_with_parent, socket_path
from genkan.telemetry import logging

config = load(config_path())


@bentoml.service(name="genkan_engine", service_class=FrontedService, workers=1)
class Engine:
    """The model, in a process of its own."""

    def __init__(self) -> None:
        end_with_parent()
        logging.configure(config.telemetry)
        self.process = EngineProcess(config)

    @bentoml.on_startup
    async def start(self) -> None:
        await self.process.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.process.aclose()

    def __is_ready__(self) -> bool:
        return self.process.ready


@bentoml.service(name="genkan", service_class=FrontedService, workers=config.server.workers)
class Gateway:
    """The OpenAI-compatible face."""

    engine = bentoml.depends(Engine)

    def __init__(self) -> None:
        end_with_parent()
        logging.configure(config.telemetry)
        self.process = GatewayProcess(config, socket_path(Engine))

    @bentoml.on_startup
    async def start(self) -> None:
        await self.process.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.process.aclose()

    @bentoml.api(route="/call")
    async def complete(
        self,
        messages: list[dict[str, Any]],
        model: str = "default",
        stream: bool = False,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: list[str] | None = None,
        genkan: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One chat request; declared for the schema and for BentoML's clients, answered by `genkan/api/native.py`."""
        raise AssertionError("the front answers /call")
