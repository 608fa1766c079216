"""An upstream that judges pairs of questions as a test has told it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

#: What every verdict takes.
VERDICT_USAGE: Final = {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201}


@dataclass(slots=True)
class ScriptedJudge:
    """Says YES to the pairs that are known as ``same``, in either order, and NO to all others."""

    base_url: str = ""
    same: set[frozenset[str]] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)  # what it was shown

    @property
    def upstream(self) -> dict[str, Any]:
        """Its configuration."""
        return {"name": "judge", "kind": "openai", "base_url": self.base_url, "health": {"interval_s": 0.0}}

    def agrees(self, one: str, other: str) -> None:
        self.same.add(frozenset({one, other}))

    def was_shown(self, one: str, other: str) -> bool:
        """Whether it was asked about the pair."""
        return any({pair["stored_question"], pair["new_question"]} == {one, other} for pair in self.asked)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion with the verdict."""
        pair = json.loads(body["messages"][-1]["content"])
        self.asked.append(pair)
        said = "YES" if frozenset({pair["stored_question"], pair["new_question"]}) in self.same else "NO"
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        head = {"id": "verdict", "object": "chat.completion", "created": 1, "model": body["model"]}
        return {**head, "choices": [choice], "usage": VERDICT_USAGE}


@contextmanager
def running_judge() -> Generator[ScriptedJudge, None, None]:
    """One that listens."""
    judge = ScriptedJudge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            data = json.dumps(judge.answer(body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is named there
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
