"""Where a stream's tokens are made.

An async generator runs in the event loop. Anything else gets a thread of its own for as long as its stream lasts: a
step that blocks holds up nobody else, and a generator never changes threads, which some of them would not survive
(``torch.inference_mode`` is a thread's, for one).
"""

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

#: A prompt in, its tokens out.
Generate = Callable[[str], Iterable[str] | AsyncIterable[str]]

_log = logging.getLogger("genkan.token_streamer")
_Result = TypeVar("_Result")


class TokenSource:
    """One prompt's tokens, and the thread that makes them if they are not made in the event loop."""

    def __init__(self, generate: Generate, prompt: str) -> None:
        self._generate = generate
        self._prompt = prompt
        self._tokens: AsyncIterator[str] | Iterator[str] | None = None
        self._thread: _Thread | None = None
        self._step: Future[Any] | None = None  # the thread's last
        self._closing: Future[None] | None = None

    @property
    def lingers(self) -> bool:
        """Whether it was closed inside a step that has not returned yet."""
        return self._closing is not None and not self._closing.done()

    async def next(self) -> str | None:
        """The next token, or None after the last."""
        if self._tokens is None:
            await self._open()
        tokens = self._tokens
        if isinstance(tokens, AsyncIterator):
            try:
                token = await anext(tokens)
            except StopAsyncIteration:
                return None
        else:
            made = await self._in_thread(self._first)
            if not made:
                return None
            token = made[0]
        if not isinstance(token, str):
            raise TypeError(f"a token must be a str; given: {type(token).__name__}")
        return token

    async def aclose(self) -> None:
        """Close the generator, once. One that fails at it is logged."""
        if self._thread is not None:
            in_step = self._step is not None and not self._step.done()
            self._closing = self._thread.submit(self._close)
            self._thread.stop()
            if not in_step:
                await asyncio.shield(asyncio.wrap_future(self._closing))  # a cancel must not keep it from being closed
        elif isinstance(self._tokens, AsyncIterator) and hasattr(self._tokens, "aclose"):
            try:
                await self._tokens.aclose()
            except Exception:  # noqa: BLE001 - there is nobody to raise it to
                _log.exception("a token generator failed while it was closed")

    async def _open(self) -> None:
        if inspect.isasyncgenfunction(self._generate):
            self._tokens = self._generate(self._prompt)
            return
        self._thread = _Thread()
        await self._in_thread(self._make)
        if isinstance(self._tokens, AsyncIterator):
            self._thread.stop()
            self._thread = None

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        assert self._thread is not None
        self._step = step = self._thread.submit(call)
        return await asyncio.wrap_future(step)

    # In the thread:

    def _make(self) -> None:
        made = self._generate(self._prompt)
        if isinstance(made, AsyncIterable):
            self._tokens = aiter(made)
        elif isinstance(made, Iterable) and not isinstance(made, str):
            self._tokens = iter(made)
        else:
            raise TypeError(f"generate must return an iterable of tokens; given: {type(made).__name__}")

    def _first(self) -> list[str]:
        assert isinstance(self._tokens, Iterator)
        return [*islice(self._tokens, 1)]

    def _close(self) -> None:
        close = getattr(self._tokens, "close", None)
        if close is not None and isinstance(self._tokens, Iterator):
            try:
                close()
            except Exception:  # noqa: BLE001 - there is nobody to raise it to
                _log.exception("a token generator failed while it was closed")


class _Thread:
    """Makes calls, one after another. Unlike an executor's thread, a call that hangs keeps no process from ending."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        run = copy_context().run  # the generator sees the context variables of whoever asked for its first token
        threading.Thread(target=run, args=(self._run,), name="token-stream", daemon=True).start()

    def submit(self, call: Callable[[], _Result]) -> Future[_Result]:
        """What ``call`` will return or raise, after the calls before it."""
        future: Future[_Result] = Future()

        def carry_out() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call())
            except StopIteration as error:  # no future can carry it
                future.set_exception(RuntimeError(f"a token generator raised {error!r}"))
            except BaseException as error:  # noqa: BLE001 - it is raised to the reader
                future.set_exception(error)

        self._calls.put(carry_out)
        return future

    def stop(self) -> None:
        """End the thread after the calls before this."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
