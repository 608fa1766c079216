"""Asks of requests that fly together: what each gives is told by the test, and who asked when is noted."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import orjson

from genkan.gateway.flights import Flights
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest

KEY = bytes(16)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
_HEAD = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def asked(*, stream: bool = True, include_usage: bool = False) -> ChatRequest:
    body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return ChatRequest.parse(orjson.dumps(body))


def chunk(text: str, *, finish_reason: str | None = None, **more: object) -> bytes:
    delta = {"content": text} if text else {}
    choice = {"index": 0, "delta": {**delta, **more}, "finish_reason": finish_reason}
    return orjson.dumps({**_HEAD, "choices": [choice]})


def usage_chunk() -> bytes:
    return orjson.dumps({**_HEAD, "choices": [], "usage": USAGE})


def body_of(text: str, **message: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-theirs", "object": "chat.completion", "created": 1, "model": "m"}
    return orjson.dumps({**head, "choices": [choice], "usage": USAGE})


def text_of(answer: bytes | list[bytes]) -> str:
    """The text of a whole body, or of payloads."""
    if isinstance(answer, bytes):
        return str(orjson.loads(answer)["choices"][0]["message"]["content"])
    choices = [choice for data in answer for choice in orjson.loads(data)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Began:
    answer: Answer
    deployment: str = "m@up"
    model: str = "m"


class Asked(Exception):
    """No error of ours: a bug."""


@dataclass
class Line:
    """An upstream's answer to one ask, given by the test: batches, a body, an error or the end."""

    said: asyncio.Queue[list[bytes] | bytes | BaseException | None] = field(default_factory=asyncio.Queue)
    is_open: bool = False  # between being asked and being closed
    was_asked: bool = False
    was_cancelled: bool = False
    closes: int = 0

    def say(self, *texts: str) -> None:
        for text in texts:
            self.said.put_nowait([chunk(text)])

    def finish(self, *, usage: bool = False) -> None:
        self.said.put_nowait([chunk("", finish_reason="stop"), *([usage_chunk()] if usage else [])])
        self.said.put_nowait(None)

    def fail(self, error: BaseException) -> None:
        self.said.put_nowait(error)

    async def ask(self) -> Began:
        assert not self.was_asked, "asked twice"
        self.was_asked = self.is_open = True
        try:
            first = await self.said.get()
        except BaseException:
            self.is_open, self.was_cancelled = False, True
            raise
        if isinstance(first, BaseException):
            self.is_open = False
            raise first
        answer = Answer(body=first) if isinstance(first, bytes) else Answer()
        if not isinstance(first, bytes):
            answer.batches = self._batches(first, answer)
        else:
            answer.usage = USAGE
        answer.on_close(self._close)
        return Began(answer)

    async def _batches(self, first: list[bytes] | None, answer: Answer) -> AsyncGenerator[list[bytes], None]:
        batch: list[bytes] | bytes | BaseException | None = first
        try:
            while batch is not None:
                assert isinstance(batch, list)
                answer.pieces += len(batch)
                yield batch
                batch = await self.said.get()
                if isinstance(batch, BaseException):
                    raise batch
        except (GeneratorExit, asyncio.CancelledError):
            self.was_cancelled = True
            raise
        answer.usage = USAGE

    async def _close(self) -> None:
        self.closes += 1
        self.is_open = False


async def settled(times: int = 30) -> None:
    """Let everything run that can without anything more being said."""
    for _ in range(times):
        await asyncio.sleep(0)


@dataclass
class Client:
    """A client's request, and what it got. ``task`` ends when it has all of it, or an error."""

    task: asyncio.Task[None]
    line: Line
    payloads: list[bytes] = field(default_factory=list)
    body: bytes | None = None
    error: BaseException | None = None
    is_leader: bool | None = None
    deployment: str = ""
    usage: object = None
    finish_reason: str | None = None
    completed: list[object] = field(default_factory=list)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return text_of(self.body if self.body is not None else self.payloads)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def client(
    flights: Flights,
    request: ChatRequest | None = None,
    *,
    key: bytes = KEY,
    reads: bool = True,
    timeout_s: float = 0.15,
) -> Client:
    """One that begins to ask now, and reads at once unless told otherwise."""
    line = Line()
    request = request or asked()

    async def live() -> None:
        try:
            boarded = await flights.answer(
                key,
                request,
                line.ask,
                request_id=f"own{id(line)}",
                timeout_s=timeout_s,
                on_complete=one.completed.append,
            )
            one.is_leader, one.deployment = boarded.is_leader, boarded.deployment
            answer = boarded.answer
            try:
                await one.may_read.wait()
                one.body = answer.body
                if answer.batches is not None:
                    async for batch in answer.batches:
                        one.payloads += batch
            finally:
                one.usage, one.finish_reason = answer.usage, answer.finish_reason
                await answer.aclose()
                await answer.aclose()
        except Exception as error:
            one.error = error

    one = Client(asyncio.get_running_loop().create_task(live()), line)
    if reads:
        one.may_read.set()
    return one
