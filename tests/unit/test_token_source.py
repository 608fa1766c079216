"""Where tokens are made: which generators run in the event loop, which in a thread, and how each is closed."""

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from genkan.token_source import Generate, TokenSource

pytestmark = pytest.mark.anyio
WAIT_S = 10.0  # how long anything here waits for something that happens at once


def words(prompt: str) -> Iterator[str]:
    yield from prompt.split()


async def async_words(prompt: str) -> AsyncIterator[str]:
    for word in prompt.split():
        yield word


class Words:
    def __call__(self, prompt: str) -> Iterator[str]:
        return words(prompt)


class AsyncWords:
    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        for word in prompt.split():
            yield word


def prefixed(prefix: str, prompt: str) -> Iterator[str]:
    return words(f"{prefix} {prompt}")


async def tokens_of(generate: Generate, prompt: str = "a b c") -> list[str]:
    source = TokenSource(generate, prompt)
    tokens: list[str] = []
    try:
        while (token := await source.next()) is not None:
            tokens.append(token)
    finally:
        await source.aclose()
    return tokens


@pytest.mark.parametrize(
    "generate",
    [
        words,
        async_words,
        Words(),
        AsyncWords(),
        str.split,
        lambda prompt: tuple(prompt.split()),
        lambda prompt: async_words(prompt),
        functools.partial(prefixed, ""),
    ],
    ids=["generator", "async", "object", "async object", "list", "tuple", "function of async", "partial"],
)
async def test_takes_whatever_makes_tokens_of_a_prompt(generate: Callable[..., Any]) -> None:
    assert await tokens_of(generate) == ["a", "b", "c"]


async def test_no_tokens_are_no_tokens() -> None:
    assert await tokens_of(words, "") == await tokens_of(async_words, "") == []


async def test_after_the_last_there_are_no_more() -> None:
    source = TokenSource(words, "a")
    assert [await source.next() for _ in range(3)] == ["a", None, None]
    await source.aclose()


@pytest.mark.parametrize(("made", "name"), [("text", "str"), (None, "NoneType"), (7, "int")])
async def test_refuses_what_is_no_iterable_of_tokens(made: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"must return an iterable of tokens; given: {name}"):
        await tokens_of(lambda _: made)


@pytest.mark.parametrize("token", [None, 7, b"bytes"])
async def test_refuses_a_token_that_is_no_text(token: Any) -> None:
    async def one(_: str) -> AsyncIterator[Any]:
        yield token

    for generate in (one, lambda _: [token]):
        with pytest.raises(TypeError, match=f"a token must be a str; given: {type(token).__name__}"):
            await tokens_of(generate)


async def test_a_sync_generator_has_one_thread_of_its_own_from_its_beginning_to_its_end() -> None:
    threads: list[threading.Thread] = []

    def generate(_: str) -> Iterator[str]:
        try:
            for token in "abc":
                threads.append(threading.current_thread())
                yield token
        finally:
            threads.append(threading.current_thread())

    source = TokenSource(generate, "")
    assert [await source.next() for _ in range(2)] == ["a", "b"]
    await source.aclose()
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    await asyncio.to_thread(threads[0].join, WAIT_S)
    assert not threads[0].is_alive()


async def test_async_tokens_are_made_in_the_event_loop_also_by_a_function_that_only_passes_them_on() -> None:
    threads: set[threading.Thread] = set()

    async def generate(_: str) -> AsyncIterator[str]:
        threads.add(threading.current_thread())
        yield "a"

    assert await tokens_of(generate) == await tokens_of(lambda prompt: generate(prompt)) == ["a"]
    assert threads == {threading.current_thread()}


async def test_a_call_that_blocks_holds_up_nobody_else() -> None:
    entered, released = threading.Event(), threading.Event()

    def slow(_: str) -> list[str]:
        entered.set()
        assert released.wait(WAIT_S)
        return ["late"]

    late = asyncio.create_task(tokens_of(slow))
    await asyncio.to_thread(entered.wait, WAIT_S)
    assert await tokens_of(words, "a b") == ["a", "b"]
    assert not late.done()
    released.set()
    assert await late == ["late"]


async def test_a_sync_generator_sees_the_context_variables_of_its_reader() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    variable.set("the reader's")

    def generate(_: str) -> Iterator[str]:
        yield variable.get()

    assert await tokens_of(generate) == ["the reader's"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), SystemError("no")])
async def test_what_a_generator_raises_is_raised_to_the_reader(error: Exception) -> None:
    def generate(_: str) -> Iterator[str]:
        yield "a"
        raise error

    source = TokenSource(generate, "")
    assert await source.next() == "a"
    with pytest.raises(type(error)) as caught:
        await source.next()
    assert caught.value is error
    await source.aclose()


async def test_a_function_that_lets_stop_iteration_out_has_failed() -> None:
    def generate(_: str) -> list[str]:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await tokens_of(generate)


class Closable:
    """An iterator that is no generator, and counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return "a"

    def close(self) -> None:
        self.closed += 1


class AsyncClosable:
    def __init__(self) -> None:
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        return "a"

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("kind", [Closable, AsyncClosable])
async def test_any_iterator_that_can_be_closed_is(kind: type[Closable] | type[AsyncClosable]) -> None:
    tokens = kind()
    source = TokenSource(lambda _: tokens, "")
    assert await source.next() == "a"
    assert tokens.closed == 0
    await source.aclose()
    assert tokens.closed == 1


def failing_at_close(_: str) -> Iterator[str]:
    try:
        yield "a"
    finally:
        raise ValueError("no")


async def async_failing_at_close(_: str) -> AsyncGenerator[str, None]:
    try:
        yield "a"
    finally:
        raise ValueError("no")


@pytest.mark.parametrize("generate", [failing_at_close, async_failing_at_close])
async def test_a_generator_that_fails_while_it_is_closed_is_logged(
    generate: Generate, caplog: pytest.LogCaptureFixture
) -> None:
    source = TokenSource(generate, "")
    assert await source.next() == "a"
    with caplog.at_level(logging.ERROR, "genkan.token_streamer"):
        await source.aclose()
    assert [record.getMessage() for record in caplog.records] == ["a token generator failed while it was closed"]


@pytest.mark.parametrize("generate", [words, async_words])
async def test_closing_before_the_first_token_makes_none(generate: Generate) -> None:
    source = TokenSource(generate, "a")
    await source.aclose()
    assert not source.lingers


async def test_a_step_that_is_abandoned_lingers_until_it_returns_and_the_generator_is_closed() -> None:
    entered, released, closed = threading.Event(), threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def generate(_: str) -> Iterator[str]:
        try:
            threads.append(threading.current_thread())
            entered.set()
            released.wait(WAIT_S)
            yield "late"
        finally:
            closed.set()

    source = TokenSource(generate, "")
    reader = asyncio.create_task(source.next())
    await asyncio.to_thread(entered.wait, WAIT_S)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await source.aclose()  # does not wait
    assert source.lingers
    assert not closed.is_set()
    released.set()
    await asyncio.to_thread(threads[0].join, WAIT_S)
    assert closed.is_set()
    assert not source.lingers


async def test_a_cancel_while_it_is_closed_does_not_keep_it_from_being_closed() -> None:
    closing, released, closed = threading.Event(), threading.Event(), threading.Event()

    def generate(_: str) -> Iterator[str]:
        try:
            yield "a"
        finally:
            closing.set()
            released.wait(WAIT_S)
            closed.set()

    source = TokenSource(generate, "")
    assert await source.next() == "a"
    closer = asyncio.create_task(source.aclose())
    await asyncio.to_thread(closing.wait, WAIT_S)
    closer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closer
    assert source.lingers
    released.set()
    assert await asyncio.to_thread(closed.wait, WAIT_S)
