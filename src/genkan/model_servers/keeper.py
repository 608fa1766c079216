"""Keeps one model server running: does what its supervision says, and tells it what happened."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from genkan.clock import Clock
from genkan.model_servers.process import HealthQuestion, ServerProcess, is_free
from genkan.model_servers.replicas import Server
from genkan.model_servers.supervision import Action, Stage, Supervision

_log = logging.getLogger("genkan.model_servers")


class Keeper:
    """``start``, then ``aclose``, in one event loop. ``on_stage`` is told the server's name and its new stage."""

    def __init__(
        self,
        server: Server,
        command: Sequence[str],
        environ: Mapping[str, str],
        clock: Clock,
        on_stage: Callable[[str, Stage], None],
        *,
        secret: str | None = None,
    ) -> None:
        self.name = server.name
        self._server, self._command, self._environ, self._secret = server, command, environ, secret
        self._clock, self._on_stage = clock, on_stage
        self._supervision = Supervision(server.serve)
        self._question = HealthQuestion(server.port, server.serve.health_timeout_s)
        self._news = asyncio.Event()
        self._process: ServerProcess | None = None
        self._life: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def stage(self) -> Stage:
        """Where in its life the server is."""
        return self._supervision.stage

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._supervision.starts

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._keep(), name=f"server {self.name}")

    async def aclose(self) -> None:
        """Returns when the server has ended, killed after its ``stop_timeout_s`` if need be."""
        if self._task is None:
            return
        if self._supervision.stop(self._clock.monotonic()) is Action.TERMINATE and self._process is not None:
            _log.info("%s is told to end", self.name)
            self._process.terminate()
        self._news.set()
        await self._task
        self._question.close()

    async def _keep(self) -> None:
        stage: Stage | None = None
        while True:
            while (action := self._supervision.act(self._clock.monotonic())) is not None:
                await self._do(action)
            if stage is not self.stage:
                stage = self.stage
                self._say(stage)
                self._on_stage(self.name, stage)
            if stage is Stage.ENDED:
                return
            self._news.clear()
            await self._wait()

    async def _wait(self) -> None:
        left_s = self._supervision.due_s - self._clock.monotonic()
        try:
            async with asyncio.timeout(None if math.isinf(left_s) else max(0.0, left_s)):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _do(self, action: Action) -> None:
        if action is Action.START:
            await self._begin()
        elif action is Action.ASK:
            self._asking = asyncio.create_task(self._ask())
        elif self._process is not None:
            self._process.terminate() if action is Action.TERMINATE else self._process.kill()

    async def _begin(self) -> None:
        if not is_free(self._server.port):
            _log.error("%s cannot be started: another program listens at port %d", self.name, self._server.port)
            self._supervision.died(self._clock.monotonic())
            return
        stop_s = self._server.serve.stop_timeout_s
        process = ServerProcess(self.name, self._command, self._environ, stop_s=stop_s, secret=self._secret)
        try:
            await process.start()
        except OSError as error:
            _log.error("%s cannot be started: %s", self.name, error.strerror)
            self._supervision.died(self._clock.monotonic())
            return
        self._process = process
        if self.stage is Stage.STOPPING:  # meanwhile
            process.terminate()
        self._life = asyncio.create_task(self._live(process))

    async def _live(self, process: ServerProcess) -> None:
        status = await process.run()
        if self._asking is not None:
            self._asking.cancel()
        if self.stage is not Stage.STOPPING:
            _log.error("%s has ended with status %d; it will be started again", self.name, status)
        self._process = None
        self._supervision.died(self._clock.monotonic())
        self._news.set()

    async def _ask(self) -> None:
        well = await self._question.is_well()
        self._supervision.answered(self._clock.monotonic(), well=well)
        self._news.set()

    def _say(self, stage: Stage) -> None:
        if stage is Stage.DYING:
            _log.error("%s is killed: %s", self.name, self._supervision.why)
        elif stage is Stage.STARTING:
            _log.info("%s is started, at port %d", self.name, self._server.port)
        elif stage is Stage.WELL:
            _log.info("%s is well", self.name)
