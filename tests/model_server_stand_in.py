#!/usr/bin/env python3
"""A program that behaves as ``vllm serve`` does, or ``sglang.launch_server``, as far as genkan sees: executable, alone.

It takes their command lines, and refuses what they do not know. Its HTTP surface is vLLM 0.33's: ``/health``,
``/version``, ``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions`` whole and streamed, ``/tokenize``,
``/metrics``. Like vLLM it finds the beginnings of prompts that it has seen, by their salt. It answers with who it is.

``STAND_IN_FOLDER`` in its environment names a folder: it writes ``<port>.json`` there, with its command line and pid,
and a line of ``<port>.asked`` for each request's body. A file ``slow`` there has it wait to answer until that is gone,
``refuse`` has it end at once, ``wedged-<port>`` answer nothing more, ``deaf`` ignore SIGTERM.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BLOCK_CHARS = 16
WORDS = ("I", " am", " on", " port", " {port}", ".")
_POLL_S = 0.02
_FORBIDDEN = "@/\\\0"


def main(argv: list[str]) -> int:
    is_vllm = argv[:1] == ["serve"]
    args = (_vllm_parser() if is_vllm else _sglang_parser()).parse_args(argv[1:] if is_vllm else argv)
    folder = Path(os.environ["STAND_IN_FOLDER"])
    if (folder / "refuse").exists():
        _say("ValueError: this stand-in refuses to start")
        return 1
    if (folder / "deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # As vLLM's engine core, a process of its own, in a session of its own here to make it hard.
    core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    report = {"argv": argv, "pid": os.getpid(), "core": core.pid, "environ": dict(os.environ)}
    draft = folder / f"{args.port}.draft"
    draft.write_text(json.dumps(report), encoding="utf-8")
    draft.rename(folder / f"{args.port}.json")
    _say(f"INFO stand-in of {args.model} loads, with key {os.environ.get('VLLM_API_KEY')}")
    while (folder / "slow").exists():
        time.sleep(_POLL_S)
    server = StandIn(args, folder, is_vllm=is_vllm)
    _say("INFO Application startup complete.")
    try:
        server.serve_forever(poll_interval=_POLL_S)
    finally:
        core.kill()
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _vllm_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm serve", allow_abbrev=False)
    parser.add_argument("model")
    for flag in ("--enable-prompt-tokens-details", "--disable-uvicorn-access-log", "--enforce-eager"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--enable-chunked-prefill", "--enable-prefix-caching"):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--dtype", choices=("auto", "half", "float16", "bfloat16", "float", "float32"))
    parser.add_argument("--distributed-executor-backend", choices=("ray", "mp", "uni", "external_launcher"))
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--quantization")
    parser.add_argument("--host")
    for flag in (
        "--port", "--tensor-parallel-size", "--pipeline-parallel-size", "--max-num-seqs", "--max-model-len",
        "--max-num-batched-tokens", "--block-size",
    ):  # fmt: skip
        parser.add_argument(flag, type=int)
    return parser


def _sglang_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sglang serve", allow_abbrev=False)
    parser.add_argument("--model-path", dest="model", required=True)
    for flag in ("--use-ray", "--disable-radix-cache", "--enable-metrics", "--enable-cache-report"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--mem-fraction-static", type=float)
    for flag in ("--host", "--served-model-name", "--dtype", "--quantization", "--log-level-http", "--config"):
        parser.add_argument(flag)
    for flag in (
        "--port", "--tp-size", "--pp-size", "--max-running-requests", "--context-length", "--chunked-prefill-size",
        "--page-size",
    ):  # fmt: skip
        parser.add_argument(flag, type=int)
    return parser


class StandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, args: argparse.Namespace, folder: Path, *, is_vllm: bool) -> None:
        super().__init__((args.host, args.port), Handler)
        names = args.served_model_name or args.model
        self.names = names if isinstance(names, list) else [names]
        self.port, self.folder = args.port, folder
        self.wedged = folder / f"wedged-{args.port}"
        self.prefix = "vllm" if is_vllm else "sglang"
        self.key = _key(args) if not is_vllm else os.environ.get("VLLM_API_KEY")
        self.seen: set[tuple[str, str]] = set()
        self.answered = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a client that has gone, as gateways are that stop, nothing is to be said."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def cached_chars(self, salt: str, prompt: str) -> int:
        """Of the prompt's beginning, in whole blocks, as a server that caches prefixes counts; and remember it all."""
        ends = range(BLOCK_CHARS, len(prompt), BLOCK_CHARS)
        with self.lock:
            found = max((end for end in ends if (salt, prompt[:end]) in self.seen), default=0)
            self.seen |= {(salt, prompt[:end]) for end in ends}
        return found


def _key(args: argparse.Namespace) -> str | None:
    if args.config is None:
        return None
    name, _, value = Path(args.config).read_text(encoding="utf-8").partition(": ")
    assert name == "api-key"
    return str(json.loads(value))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._wait_if_wedged()
        if self.path == "/health":
            self._send(b"", "text/plain")
        elif self.path == "/version":
            self._send_json({"version": "0.33.0"})
        elif self.path == "/metrics":
            self._send(self._metrics().encode(), "text/plain; version=0.0.4")
        elif self.path == "/v1/models" and self._is_let_in():
            self._send_json({"object": "list", "data": [{"id": n, "object": "model"} for n in self.server.names]})

    def do_POST(self) -> None:
        self._wait_if_wedged()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock, (self.server.folder / f"{self.server.port}.asked").open("a", encoding="utf-8") as file:
            file.write(json.dumps(body) + "\n")
        if not self._is_let_in():
            return
        if self.path == "/tokenize":
            count = len(_prompt(body)) // 4
            self._send_json({"tokens": list(range(count)), "count": count, "max_model_len": 4096})
        elif body.get("model") not in self.server.names:
            self._send_json(
                {"error": {"message": f"The model `{body.get('model')}` does not exist.", "code": 404}}, 404
            )
        elif _is_bad_salt(body.get("cache_salt")):
            self._send_json({"error": {"message": "Parameter 'cache_salt' must not contain that", "code": 400}}, 400)
        else:
            self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        prompt = _prompt(body)
        with self.server.lock:
            self.server.answered += 1
        words = [word.format(port=self.server.port) for word in WORDS]
        cached = self.server.cached_chars(body.get("cache_salt") or "", prompt)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(words),
            "total_tokens": len(prompt) + len(words),
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        is_chat = self.path.endswith("/chat/completions")
        if body.get("stream"):
            self._stream(is_chat, body, words, usage)
            return
        text = "".join(words)
        choice = {"index": 0, "finish_reason": "stop", **_said(is_chat, "message", text)}
        self._send_json({**self._common(is_chat, body), "choices": [choice], "usage": usage})

    def _stream(self, is_chat: bool, body: dict[str, Any], words: list[str], usage: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        common = self._common(is_chat, body)
        for word in words:
            choice = {"index": 0, "finish_reason": None, **_said(is_chat, "delta", word)}
            self._event({**common, "choices": [choice]})
        end = {"index": 0, "finish_reason": "stop", **_said(is_chat, "delta", "")}
        self._event({**common, "choices": [end]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self._event({**common, "choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _common(self, is_chat: bool, body: dict[str, Any]) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if body.get("stream") else "chat.completion") if is_chat else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1, "model": body["model"]}

    def _event(self, payload: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(payload).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _metrics(self) -> str:
        prefix, name = self.server.prefix, self.server.names[0]
        return (
            f"# HELP python_info Python platform information\n# TYPE python_info gauge\npython_info 1.0\n"
            f"# HELP {prefix}:request_success_total Count of successfully processed requests.\n"
            f"# TYPE {prefix}:request_success_total counter\n"
            f'{prefix}:request_success_total{{finished_reason="stop",model_name="{name}"}} {self.server.answered}.0\n'
        )

    def _is_let_in(self) -> bool:
        if self.server.key is None or not self.path.startswith("/v1"):
            return True
        if self.headers.get("authorization") == f"Bearer {self.server.key}":
            return True
        self._send_json({"error": "Unauthorized"}, 401)
        return False

    def _wait_if_wedged(self) -> None:
        while self.server.wedged.exists():
            time.sleep(_POLL_S)

    def _send_json(self, payload: object, status: int = 200) -> None:
        self._send(json.dumps(payload).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _said(is_chat: bool, name: str, text: str) -> dict[str, Any]:
    return {name: {"role": "assistant", "content": text}} if is_chat else {"text": text}


def _prompt(body: dict[str, Any]) -> str:
    return str(body["prompt"]) if "prompt" in body else json.dumps(body["messages"])


def _is_bad_salt(salt: object) -> bool:
    """Source: vLLM 0.33, ``entrypoints/generate/base/protocol.py``, ``validate_cache_salt``."""
    if salt is None:
        return False
    return not isinstance(salt, str) or not 0 < len(salt) <= 128 or any(char in salt for char in _FORBIDDEN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
