"""Streams that break off, upstreams that can go on with them, and a pipeline with a ledger in front of both."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import orjson
from accounts_at_hand import AccountsAtHand
from scripted_upstreams import Fails, Told, VirtualClock, router_to

from genkan.config import Config
from genkan.errors import RequestError, StreamInterrupted, TimedOut, UpstreamError
from genkan.gateway.fallback import Fallback
from genkan.gateway.ledger_row import Row
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router
from genkan.upstream.base import NO_CALL, Answer, Call, Way
from genkan.wire.answers import AnswerStream
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.said import Said

TOKENS = tuple(f" tok{number:02d}" for number in range(12))
TEXT = "".join(TOKENS)
PROMPT_TOKENS = 7
CALLER = Caller("req_1", "acme", "key_1")


def cut(upstream: str) -> UpstreamError:
    return StreamInterrupted("cut", upstream=upstream)


@dataclass(frozen=True)
class Tells:
    """What an upstream does when it is asked once: it says its tokens, or those that are not said yet."""

    tokens: tuple[str, ...] = TOKENS
    cut_after: int | None = None  # of its own chunks
    breaks: Fails | None = cut  # None: it is silent from there on
    refuses: Fails | None = None
    refuses_beginning: Fails | None = None
    repeats: bool = False
    begins_anew: bool = False  # whatever it was given to go on from
    counts: bool = True  # its tokens, in a usage at the end
    says_continued: bool = False


class Teller:
    """An Upstream that takes its turns in order, the last one for ever."""

    def __init__(self, name: str, *turns: Tells, way: Way = "replay") -> None:
        self.name = name
        self.way = way
        self.calls: list[Call] = []
        self.open = 0
        self.silent = asyncio.Event()
        self._turns = turns or (Tells(),)

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return self.way if said.is_text else "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        return None

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        turn = self._turns[min(len(self.calls), len(self._turns) - 1)]
        self.calls.append(call)
        call.is_sent = True
        await asyncio.sleep(0)
        refuses = turn.refuses if call.continuation is None else turn.refuses_beginning
        if refuses is not None:
            raise refuses(self.name)
        follower = AnswerStream(choices=1, show_usage=request.include_usage, keep_bytes=call.keep_bytes)
        answer = Answer()
        answer.repeats = turn.repeats and call.continuation is not None
        answer.batches = self._batches(turn, self._chunks(turn, call), follower, answer)
        self.open += 1
        answer.on_close(self._closed)
        return answer

    def _chunks(self, turn: Tells, call: Call) -> Iterator[bytes]:
        on = call.continuation
        begins_at = 0 if on is None or turn.repeats or turn.begins_anew else len(on.text)
        ends = accumulate(map(len, turn.tokens))
        tokens = [one[begins_at - end :] for one, end in zip(turn.tokens, ends, strict=True) if end > begins_at]
        yield self._chunk({"role": "assistant", "content": ""})
        for token in tokens:
            yield self._chunk({"content": token})
        yield self._chunk({}, "stop")
        if turn.counts:
            prompt, details = PROMPT_TOKENS + (0 if on is None else on.tokens), {"cached_tokens": 2}
            if on is not None and turn.says_continued:
                prompt, details["continued_tokens"] = PROMPT_TOKENS + 5, 5
            completion = len(tokens)
            usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            yield orjson.dumps({**self._head(), "choices": [], "usage": {**usage, "prompt_tokens_details": details}})

    async def _batches(
        self, turn: Tells, chunks: Iterator[bytes], follower: AnswerStream, answer: Answer
    ) -> AsyncGenerator[list[bytes], None]:
        for number, chunk in enumerate(chunks):
            if number - 1 == turn.cut_after:
                if turn.breaks is None:
                    self.silent.set()
                    await asyncio.Event().wait()
                assert turn.breaks is not None
                answer.said = follower.said
                raise turn.breaks(self.name)
            batch = follower.take([chunk])
            answer.usage, answer.pieces, answer.text_bytes = follower.usage, follower.pieces, follower.text_bytes
            if batch:
                yield batch
        answer.finish_reason = follower.finish_reason

    async def _closed(self) -> None:
        self.open -= 1

    def _head(self) -> dict[str, Any]:
        return {"id": f"id-{self.name}", "object": "chat.completion.chunk", "created": 1, "model": f"there-{self.name}"}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return orjson.dumps({**self._head(), "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


@dataclass
class Taken:
    """What a client got."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    error: RequestError | None = None
    fields: dict[str, object] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def text(self) -> str:
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def usage(self) -> Any:
        return next((chunk["usage"] for chunk in self.chunks if chunk.get("usage")), None)

    @property
    def is_one(self) -> bool:
        """Whether it is one whole answer of one upstream, as far as anybody can tell: one identity, role and end."""
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        roles = [choice["delta"]["role"] for choice in choices if choice["delta"].get("role")]
        ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        heads = {(chunk["id"], chunk["model"]) for chunk in self.chunks}
        return self.error is None and roles == ["assistant"] and ends == ["stop"] and len(heads) == 1


class ResumeRig(AccountsAtHand):
    """A chain of models, each on its own upstreams, of which a tenant has the route ``nick``."""

    def __init__(
        self,
        *upstreams: Teller,
        models: dict[str, list[str]] | None = None,
        groups: dict[str, str] | None = None,
        resume: dict[str, Any] | None = None,
        limits: dict[str, dict[str, Any]] | None = None,
        **route: Any,
    ) -> None:
        """``models``, in the order of the chain, have the names of their upstreams; else one model has them all.

        ``limits`` are those of upstreams, by name.
        """
        models = models or {"big": [upstream.name for upstream in upstreams]}
        config = Config.model_validate(
            {
                "upstreams": [{"name": one.name, "kind": "openai", "base_url": "http://h/v1"} for one in upstreams],
                "models": [
                    {
                        "name": name,
                        "resume_group": (groups or {}).get(name, ""),
                        "deployments": [
                            # The first is asked first.
                            {"upstream": place, "weight": 0 if nth else 1, "limits": (limits or {}).get(place, {})}
                            for nth, place in enumerate(places)
                        ],
                    }
                    for name, places in models.items()
                ],
                "routes": [{"alias": "nick", "chain": [*models], "resume": resume or {}, **route}],
                "prices": {
                    "models": [
                        {"model": name, "input": 2.0 / 10**nth, "output": 8.0 / 10**nth}
                        for nth, name in enumerate(models)
                    ]
                },
            }
        )
        super().__init__(config, VirtualClock())
        self.upstreams = upstreams
        self.seen = Told()
        self.router: Router = router_to(config, upstreams, self.meter)
        fallback = Fallback(self.clock, self.seen, self.clock.sleep)
        self.responder = Pipeline(self.router, fallback, self.admissions)

    async def ask(self, **options: Any) -> Answer:
        raw = {"model": "nick", "messages": [{"role": "user", "content": "Hi"}], "stream": True, **options}
        return await self.responder.respond(ChatRequest.from_object(raw), CALLER)

    async def taken(self, **options: Any) -> Taken:
        """All of one answer, or as much as there was before the error."""
        taken = Taken()
        answer = await self.ask(**options)
        taken.answer = answer
        try:
            assert answer.batches is not None
            async for batch in answer.batches:
                taken.chunks += map(orjson.loads, batch)
        except RequestError as error:
            taken.error = error
        finally:
            await answer.aclose()
        taken.fields = answer.fields
        assert self.is_at_rest()
        return taken

    def is_at_rest(self) -> bool:
        """Whether no answer is open and no attempt in flight."""
        return not any(one.open for one in self.upstreams) and not any(one.in_flight for one in self.router.deployments)

    async def row(self) -> Row:
        (row,) = await self.rows()
        return row


def stalled(upstream: str) -> UpstreamError:
    return TimedOut(upstream=upstream, phase="between_tokens", limit_s=1.0)


def breaks(after: int = 8, how: Fails | None = cut, **rest: Any) -> Tells:
    return Tells(cut_after=after, breaks=how, **rest)
