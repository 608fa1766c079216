"""Requests of every kind, many at a time, and what became of each as its client saw it."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from faults.raw_client import Reply, raw_client, request_bytes

#: ``whole``: all of the answer, properly ended. ``error``: an answer that says it failed. ``left``: this client went
#: away on purpose. ``broken``: the server did, in the middle or before the beginning.
End = Literal["whole", "error", "left", "broken"]
Leaving = Literal["stays", "before the answer", "within the answer"]

ROUTE: Final = "billed"
MESSAGES: Final = [{"role": "user", "content": "Count to sixty."}]
MAX_TOKENS: Final = 100
#: What an upstream may do to an attempt. It is healthy as often as all of these together.
TROUBLE: Final = (
    *("reset-before-headers", "cut-after-40", "eof-after-40", "truncated-content-length", "error-event-after-40"),
    *("500-for-ever", "502-html", "503-for-ever", "usage-missing", "usage-null", "never-answers", "stalled-after-40"),
)
_SLOW_MS = 5
_OWN_BYTES = 200
_QUIET_S = 40.0  # there may be no worker at all for ten seconds


@dataclass(frozen=True, slots=True)
class Question:
    """One request. Its prompt's tokens, as the upstream counts them, are like no other's."""

    number: int
    stream: bool
    include_usage: bool
    script: tuple[str, ...]
    leaving: Leaving
    #: Before the answer: so many ms; within it: after so many bytes.
    patience: int

    @property
    def prompt_tokens(self) -> int:
        return 1000 + self.number

    def body(self) -> dict[str, Any]:
        own = {
            "x_number": self.number,
            "x_prompt_tokens": self.prompt_tokens,
            "x_script": self.script,
            "x_delay_ms": _SLOW_MS,
        }
        # All are equally long, so that all reserve as much.
        padding = "." * (_OWN_BYTES - sum(len(orjson.dumps(value)) for value in own.values()))
        body = {"model": ROUTE, "stream": self.stream, "messages": MESSAGES, "max_tokens": MAX_TOKENS}
        return {**body, **own, "x_padding": padding}

    def as_bytes(self) -> bytes:
        body = self.body()
        if self.stream and self.include_usage:
            body["stream_options"] = {"include_usage": True}
        return request_bytes("POST", "/v1/chat/completions", body)


@dataclass(frozen=True, slots=True)
class Told:
    """What a client knows of its request afterwards. Times are the system's monotonic clock."""

    question: Question
    end: End
    began_s: float
    ended_s: float
    request_id: str | None
    #: As the answer says: tokens of the prompt and of the answer, and dollars.
    usage: tuple[int, int] | None = None
    cost_usd: float | None = None


def questions(count: int, dice: random.Random) -> Iterator[Question]:
    """``count`` of them, numbered from 0."""
    for number in range(count):
        stream = dice.random() < 0.6
        script = tuple(_ails(dice) for _ in range(2))
        leaving: Leaving = dice.choices(("stays", "before the answer", "within the answer"), (0.84, 0.08, 0.08))[0]
        patience = dice.randrange(60) if leaving == "before the answer" else dice.randrange(200, 12_000)
        yield Question(number, stream, dice.random() < 0.5, script, leaving, patience)


async def ask_all(port: int, asked: Iterable[Question], *, at_once: int, on_end: Callable[[], None]) -> list[Told]:
    """Ask them, ``at_once`` at a time, each on a connection of its own; ``on_end`` is called at the end of each."""
    waiting = iter(asked)
    told: list[Told] = []

    async def client() -> None:
        for question in waiting:
            told.append(await _ask(port, question))
            on_end()

    async with asyncio.TaskGroup() as clients:
        for _ in range(at_once):
            clients.create_task(client())
    return told


def _ails(dice: random.Random) -> str:
    return dice.choice(TROUBLE) if dice.random() < 0.3 else dice.choice(("ok", "slow-ok"))


async def _ask(port: int, question: Question) -> Told:
    began_s = time.monotonic()
    enough = question.patience if question.leaving == "within the answer" else 1 << 30
    reply = Reply(end="eof")
    with suppress(ConnectionError):
        async with raw_client(port, quiet_s=_QUIET_S, enough_bytes=enough) as client:
            await client.write(question.as_bytes())
            if question.leaving == "before the answer":
                await asyncio.sleep(question.patience / 1000)
            else:
                reply = await client.read()
    return _told(question, reply, began_s)


def _told(question: Question, reply: Reply, began_s: float) -> Told:
    end: End = "broken"
    usage, cost_usd = None, None
    if reply.end == "complete" and reply.status == 200 and b'"error"' not in reply.body and reply.healthy:
        end = "whole"
        usage, cost_usd = _bill(reply)
    elif question.leaving == "before the answer" or (question.leaving == "within the answer" and reply.body):
        end = "left"
    elif reply.end == "complete":
        end = "error"
    assert reply.end != "silence", f"{question} got no answer within {_QUIET_S:g} s"
    return Told(question, end, began_s, time.monotonic(), reply.headers.get("x-request-id"), usage, cost_usd)


def _bill(reply: Reply) -> tuple[tuple[int, int] | None, float | None]:
    """Of a whole answer: the tokens and the dollars that it says."""
    if reply.body.startswith(b"{"):
        used = orjson.loads(reply.body).get("usage")
        cost = reply.headers.get("x-genkan-cost-usd")
        return _tokens(used), None if cost is None else float(cost)
    used = next((chunk["usage"] for chunk in reversed(reply.chunks) if chunk.get("usage")), None)
    return _tokens(used), used["cost_usd"] if used else None


def _tokens(used: dict[str, Any] | None) -> tuple[int, int] | None:
    return (used["prompt_tokens"], used["completion_tokens"]) if used else None
