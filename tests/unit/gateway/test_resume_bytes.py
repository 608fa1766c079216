"""An upstream's response that ends at any of its bytes, head and body: the client gets the answer, whole and once."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
from byte_servers import MemoryTransport, turns
from scripted_upstreams import Told, taken

from genkan.clock import SystemClock
from genkan.config import BreakerConfig, OpenAiUpstreamConfig, RouteConfig
from genkan.gateway.breaker import Breaker, MemoryCircuits
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback
from genkan.gateway.standing import UpstreamStanding
from genkan.upstream.http_client import HttpClient
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio

TOKENS = ("Grüß", "e: ", "日本", " 🦀\n", '"ok"')
TEXT = "".join(TOKENS)
ARGUMENTS = '{"days": [1, 2], "ort": "Huế"}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NEVER = 10**9
Delta = dict[str, Any]
Respond = Callable[[dict[str, Any]], bytes]  # to a body
#: What comes in the place of the rest, just after the beginning, if it is not nothing: what is right nowhere.
GARBAGE = b"\0\r\n\r\n"


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def call(name: str, size: int) -> list[Delta]:
    begun = {"index": 0, "id": f"call-{name}", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in pieces(ARGUMENTS, size)]
    return [{"tool_calls": [one]} for one in (begun, *more)]


def thinking(name: str, size: int) -> list[Delta]:
    thoughts = [{"reasoning_content": piece} for piece in pieces("hm, 日本?", size)]
    return [*thoughts, *({"content": piece} for piece in pieces(TEXT, size)), *call(name, size)]


def saying(tokens: Iterable[str]) -> list[Delta]:
    return [{"content": token} for token in tokens]


def payload(name: str, delta: Delta, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return orjson.dumps({"id": name, "model": name, "choices": [choice]})


def response(name: str, deltas: Iterable[Delta]) -> bytes:
    said = [payload(name, delta) for delta in ({"role": "assistant"}, *deltas)]
    events = [b"data: %b\n\n" % each for each in (*said, payload(name, {}, "stop"), b"[DONE]")]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def heard(choices: list[dict[str, Any]]) -> dict[str, str]:
    """All that was said, track by track, and the tracks in their order."""
    said: dict[str, str] = {}
    for delta in (choice["delta"] for choice in choices):
        for name in ("role", "reasoning_content", "content"):
            if delta.get(name):
                said[name] = said.get(name, "") + delta[name]
        for one in delta.get("tool_calls", ()):
            for name, value in (("id", one.get("id")), *one["function"].items()):
                said[name] = said.get(name, "") + (value or "")
    return {**said, "order": " ".join(said), "end": " ".join(filter(None, (one["finish_reason"] for one in choices)))}


class Served(MemoryTransport):
    """A connection to a server that answers each request at once."""

    def __init__(self, protocol: asyncio.Protocol, respond: Respond) -> None:
        self._respond = respond
        self._ending: asyncio.Future[None] | None = None
        super().__init__(protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        body = bytes(data).partition(b"\r\n\r\n")[2]
        asyncio.get_running_loop().call_soon(self._answer, orjson.loads(body))

    def _answer(self, body: dict[str, Any]) -> None:
        data = self._respond(body)
        begun, garbage, _ = data.partition(GARBAGE)
        self.send(begun)
        if garbage:
            self._ending = asyncio.ensure_future(self._garble())
        elif len(data) % 2:
            self.reset()
        else:
            self.eof()

    async def _garble(self) -> None:
        await turns(3)
        self.send(GARBAGE)
        self.eof()


def deployment(name: str, respond: Respond, **settings: Any) -> Deployment:
    config = OpenAiUpstreamConfig.model_validate(
        {"name": name, "kind": "openai", "base_url": "http://h/v1", **settings}
    )
    upstream = OpenAiUpstream(config, None, SystemClock())

    async def dial(protocol: Callable[[], asyncio.Protocol]) -> object:
        return Served(protocol(), respond)

    upstream.client = HttpClient(dial, connect_s=1.0, keep_alive=0, keep_alive_s=1.0)
    never = BreakerConfig(consecutive_failures=NEVER, alone_failures=NEVER, min_attempts=NEVER)
    breaker = Breaker(f"m@{name}", never, MemoryCircuits())
    return Deployment("m", "m", 1, None, upstream, breaker, UpstreamStanding())


def rest_of(body: dict[str, Any]) -> bytes:
    """Goes on from the text that it is given, wherever that ends, as chat templates put it: without outer spaces."""
    last = body["messages"][-1]
    begun = last["content"].strip() if last["role"] == "assistant" else ""
    assert TEXT.startswith(begun)
    return response("second", saying(pieces(TEXT[len(begun) :], 3)))


def all_again(body: dict[str, Any]) -> bytes:
    """Otherwise divided than the first's."""
    return response("second", saying(pieces(TEXT, 4)))


def all_thought_again(body: dict[str, Any]) -> bytes:
    return response("second", thinking("again", 7))


@pytest.mark.parametrize("garbage", [b"", GARBAGE], ids=["broken", "garbled"])
@pytest.mark.parametrize(
    ("prefill", "said", "respond", "way"),
    [
        pytest.param("none", saying(TOKENS), all_again, "replay", id="replay"),
        pytest.param("vllm", saying(TOKENS), rest_of, "prefill", id="prefill"),
        pytest.param("prefix-echoed", saying(TOKENS), all_again, "prefill", id="echoed"),
        pytest.param("none", thinking("first", 12), all_thought_again, "replay", id="thoughts-and-calls"),
    ],
)
async def test_at_no_byte_is_anything_lost_or_doubled_or_out_of_order(
    prefill: str, said: list[Delta], respond: Respond, way: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # it is warned of each
    whole, told = response("first", said), Told()
    beginning = b""
    first = deployment("first", lambda _: beginning + garbage)
    chain = Chain(RouteConfig(alias="m", chain=["m"]), [[first], [deployment("second", respond, prefill=prefill)]])
    fallback = Fallback(SystemClock(), told)
    request = ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
    canonical = heard([{"delta": delta, "finish_reason": None} for delta in ({"role": "assistant"}, *said)])
    joined_at = 0
    # After an answer's end garbage is an error; that nothing comes is none.
    last = whole.index(b'"stop"') if garbage else len(whole)
    for ends_at in range(0, last + 1, step := 3 if garbage else 1):
        beginning = whole[:ends_at]
        told.resumes.clear()
        answer, walk = await fallback.respond(chain, request)
        chunks = [orjson.loads(data) for data in await taken(answer)]
        found = heard([choice for chunk in chunks for choice in chunk["choices"]])
        assert found == {**canonical, "end": "stop", **({"id": found["id"]} if "id" in found else {})}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert found.get("id") in (None, "call-first", "call-again")
        if told.resumes:
            assert told.resumes == [("m", way, "ok")]
            assert walk.answered_by is first
            joined_at += 1
        assert first.in_flight == 0
    # From the byte that ends the first piece's event to the one that ends the last's.
    assert joined_at > len(whole) / 2 / step
