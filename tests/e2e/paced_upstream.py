"""An upstream whose models answer after a set time, and fail a set share of requests: ``python -m e2e.paced_upstream``.

A model's name says both: ``20ms`` answers after 20 milliseconds, and ``20ms-fails-3`` does too, but for three of
each hundred requests, which get an error. It prints its port and runs until it is ended.
"""

import asyncio
import itertools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

PROMPT, COMPLETION = 5, 7
TEXT = "All is well."
_TESTS = Path(__file__).parents[1]
_NAME = re.compile(r"(\d+)ms(?:-fails-(\d+))?")
_STEP = 37  # is prime to 100: a hundred requests in a row have every remainder once, and failures lie apart
_USAGE = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": PROMPT + COMPLETION}
_ERROR = {"error": {"message": "no", "type": "server_error", "param": None, "code": None}}


class PacedUpstream:
    """Its models have no names but those that clients give them."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other, until the client ends it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: *(\d+)", head)
                body = orjson.loads(await reader.readexactly(int(length[1])) if length else b"{}")
                await self._answer(body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        model = str(body.get("model", "0ms"))
        named = _NAME.fullmatch(model)
        assert named is not None, model
        await asyncio.sleep(int(named[1]) / 1000)
        if next(self._numbers[model]) * _STEP % 100 < int(named[2] or 0):
            writer.write(_whole(_ERROR, "500 Internal Server Error"))
        elif body.get("stream"):
            writer.write(_head("text/event-stream", "transfer-encoding: chunked") + _chunked(_events(model)))
        else:
            message = {"role": "assistant", "content": TEXT}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            writer.write(_whole({**_common(model, "chat.completion"), "choices": [choice], "usage": _USAGE}))


@contextmanager
def running_paced_upstream() -> Generator[str, None, None]:
    """One in a process of its own; its base URL."""
    command = [sys.executable, "-m", "e2e.paced_upstream"]
    with subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()
            process.wait(10)


def _common(model: str, kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


def _whole(content: object, status: str = "200 OK") -> bytes:
    body = orjson.dumps(content)
    return _head("application/json", f"content-length: {len(body)}", status) + body


def _events(model: str) -> bytes:
    common = _common(model, "chat.completion.chunk")
    deltas = [{"role": "assistant", "content": ""}, {"content": TEXT}, {}]
    ends = [None, None, "stop"]
    chunks: list[dict[str, object]] = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip(deltas, ends, strict=True)
    ]
    chunks.append({**common, "choices": [], "usage": _USAGE})
    return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def _chunked(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


def _head(media_type: str, line: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\n{line}\r\n\r\n".encode()


async def _run() -> None:
    server = await asyncio.start_server(PacedUpstream().serve, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run())
