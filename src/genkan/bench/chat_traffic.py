"""What clients send and upstreams answer in the gateway's benchmarks: bytes made once, and the checks on them.

Every prompt holds the number of its request, so no two are alike, and the answer repeats it: a gateway that mixes up
two answers, or gives one of them twice, is found out.
"""

import json
import re
from typing import Any

from genkan.bench.http_answer import Answer, WrongAnswer

PATH = "/v1/chat/completions"
MODEL = "fake-model"
EVENTS = 20  # the role, 16 of content, the finish reason, the usage, [DONE]

_DONE = b"data: [DONE]\n\n"
_DIGITS = 10
_HOLE = b"#" * _DIGITS  # where a number goes
_NUMBER = re.compile(rb"request ([0-9]{%d})" % _DIGITS)
_STREAM = re.compile(rb'"stream": ?true')

_SYSTEM = "You are the assistant of a small inn. Answer in one sentence, in the guest's language, and invent nothing."
_USER = f"This is request {_HOLE.decode()}. At what time may I come for breakfast, and is there any tea without sugar?"
_ANSWER = (
    *(f"request {_HOLE.decode()}:", "from", "seven", "until", "half", "past", "ten,", "and"),
    *("yes,", "there", "is", "green", "tea", "and", "oat", "milk."),
)
_USAGE = {
    "prompt_tokens": 61,
    "completion_tokens": 16,
    "total_tokens": 77,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


class Requests:
    """Makes the requests of one kind for the server on ``port`` of this machine, headers and all."""

    def __init__(self, port: int, *, stream: bool, path: str = PATH, model: str = "default") -> None:
        body = {
            "model": model,
            "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}],
            "temperature": 0.2,
            "max_tokens": 64,
            "stream": stream,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        self._before, self._after = _post(port, path, json.dumps(body).encode()).split(_HOLE)

    def __call__(self, number: int) -> bytes:
        return b"%b%b%b" % (self._before, digits(number), self._after)


def malformed(port: int) -> bytes:
    """A request whose JSON ends in the middle of a string: the answer must be 400."""
    return _post(port, PATH, b'{"model": "default", "messages": [{"role": "user", "content": "Hel')


def digits(number: int) -> bytes:
    """``number`` as it stands in prompts and answers."""
    return b"%0*d" % (_DIGITS, number)


def asked(body: bytes) -> tuple[bytes, bool]:
    """What an upstream reads of a request: its number, and whether it wants a stream. Raises ValueError."""
    found = _NUMBER.search(body)
    if found is None:
        raise ValueError("no number in the prompt")
    return found[1], _STREAM.search(body) is not None


def whole_answer(number: bytes) -> bytes:
    """The HTTP answer to a request that wants no stream."""
    return b"%b%b%b" % (_WHOLE_BEFORE, number, _WHOLE_AFTER)


def stream_writes(number: bytes) -> list[bytes]:
    """What an upstream writes to answer with a stream, one write after the other: the headers, then event by event."""
    return [*_WRITES_BEFORE, b"%b%b%b" % (_FIRST_BEFORE, number, _FIRST_AFTER), *_WRITES_AFTER]


def check_whole(answer: Answer, number: int) -> None:
    """Raises WrongAnswer unless it is the whole answer to that request."""
    _check_ok(answer)
    if not (answer.body.startswith(b"{") and answer.body.endswith(b"}") and digits(number) in answer.body):
        raise WrongAnswer("200 with another body than this request's")


def check_stream(answer: Answer, number: int) -> None:
    """Raises WrongAnswer unless it is this request's stream with every event to the last."""
    check_events(answer, number)
    if digits(number) not in answer.body:
        raise WrongAnswer("the stream of another request")


def check_empty(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is the empty JSON object."""
    _check_ok(answer)
    if answer.body != b"{}":
        raise WrongAnswer("200 without the empty object")


def check_events(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is a stream of ``EVENTS`` events that ends as it should, whatever they hold."""
    _check_ok(answer)
    if not answer.body.endswith(_DONE):
        raise WrongAnswer("a stream that does not end in [DONE]")
    events = answer.body.count(b"data: ")
    if events != EVENTS:
        raise WrongAnswer(f"a stream of {events} events instead of {EVENTS}")


def check_refused(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is 400."""
    if answer.status != 400:
        raise WrongAnswer(f"status {answer.status} instead of 400")


def _check_ok(answer: Answer) -> None:
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status}: {answer.body[:200].decode(errors='replace')}")


def _post(port: int, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        "Content-Type: application/json\r\nUser-Agent: genkan-bench\r\nAuthorization: Bearer sk-bench-client\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def json_answer(body: dict[str, Any]) -> bytes:
    """``body`` with status 200, headers and all."""
    text = json.dumps(body, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)


def events() -> list[bytes]:
    """All events of a stream as bytes of an SSE body; the second has the place for the number."""
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        *(({"content": f" {word}"}, None) for word in _ANSWER),
        ({}, "stop"),
    ]
    chunks = [_chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]) for delta, end in deltas]
    chunks.append(_chunk([], _USAGE))
    return [*(b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode() for chunk in chunks), _DONE]


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-BenchBenchBenchBenchBench",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": MODEL,
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }


def _completion() -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": " ".join(_ANSWER), "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-BenchBenchBenchBenchBench",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _in_http_chunks() -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    *chunks, last = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
    return [head, *chunks, last + b"0\r\n\r\n"]


_WHOLE_BEFORE, _WHOLE_AFTER = json_answer(_completion()).split(_HOLE)
_WRITES_BEFORE, [_FIRST, *_WRITES_AFTER] = _in_http_chunks()[:2], _in_http_chunks()[2:]
_FIRST_BEFORE, _FIRST_AFTER = _FIRST.split(_HOLE)
