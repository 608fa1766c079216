"""uvicorn's server in this process: what is under way in it, and how it ends.

BentoML constructs it and hands it to nobody. While it serves, the handler of SIGTERM is a method of it.

Source: uvicorn 0.54, `Server.capture_signals`, `Server.on_tick`, `Server.shutdown`.
"""

import asyncio
import signal

import uvicorn

_CLOSE = (b"connection", b"close")


class HttpServer:
    """The server that runs in this process; one that does nothing where none does, as in tests of an application."""

    def __init__(self, server: uvicorn.Server | None) -> None:
        self._server = server

    @classmethod
    def of_this_process(cls) -> "HttpServer":
        owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        return cls(owner if isinstance(owner, uvicorn.Server) else None)

    @property
    def requests(self) -> int:
        """How many are being answered."""
        return 0 if self._server is None else len(self._server.server_state.tasks)

    @property
    def connections(self) -> int:
        return 0 if self._server is None else len(self._server.server_state.connections)

    def limit_grace(self, grace_s: float) -> None:
        """From SIGTERM on, requests have ``grace_s``; where ``bentoml serve`` was told how long, it stays with that."""
        if self._server is not None and self._server.config.timeout_graceful_shutdown is None:
            # uvicorn's type says int, and what it does with it is asyncio.wait_for.
            self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]

    def close_after_answers(self, *, closes: bool) -> None:
        """Whether each answer from now on is the last of its connection. Costs a request nothing: it is among the
        headers that every answer has."""
        if self._server is None:
            return
        config, state = self._server.config, self._server.server_state
        added = [_CLOSE] if closes else []
        config.encoded_headers = _without_close(config.encoded_headers) + added
        state.default_headers = _without_close(state.default_headers) + added

    async def wait_for_answers(self, limit_s: float) -> None:
        """Until nothing is being answered: those whose grace has ended are told so before their parts are closed."""
        if self._server is not None and (tasks := self._server.server_state.tasks):
            await asyncio.wait(tasks, timeout=limit_s)


def _without_close(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header != _CLOSE]
