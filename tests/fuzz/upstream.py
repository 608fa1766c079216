"""An upstream that answers everything it can read, at once: ``python -m fuzz.upstream``; it prints its port.

It is told apart from a model's server in one thing: whatever the gateway passes on must be a JSON object with a model's
name, or it answers with 500, which the campaign takes for what it is: something went through that should not have.
"""

import asyncio
import sys
from typing import Any

import orjson
from aiohttp import web

_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def generate(request: web.Request) -> web.Response:
    try:
        asked: Any = orjson.loads(await request.read())
        about = {"id": "fuzz", "created": 1, "model": str(asked["model"])}
        chat = request.path.endswith("/chat/completions")
        places = range((asked.get("n") or 1) * (1 if chat else _prompts(asked["prompt"])))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return web.Response(status=500)
    about["object"] = "chat.completion" if chat else "text_completion"
    if asked.get("stream") is True:
        return web.Response(body=_stream(about, places, chat=chat), content_type="text/event-stream")
    said: dict[str, Any] = {"message": {"role": "assistant", "content": "hi"}} if chat else {"text": "hi"}
    choices = [{"index": place, "finish_reason": "stop", **said} for place in places]
    return web.json_response({**about, "choices": choices, "usage": _USAGE})


def _prompts(prompt: Any) -> int:
    return len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1


def _stream(about: dict[str, Any], places: range, *, chat: bool) -> bytes:
    piece: dict[str, Any] = {"delta": {"role": "assistant", "content": "hi"}} if chat else {"text": "hi"}
    end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    chunks: list[dict[str, Any]] = []
    for place in places:
        chunks.append({**about, "choices": [{"index": place, "finish_reason": None, **piece}]})
        chunks.append({**about, "choices": [{"index": place, "finish_reason": "stop", **end}]})
    chunks.append({**about, "choices": [], "usage": _USAGE})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


async def models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})


async def serve() -> None:
    application = web.Application(client_max_size=64 << 20)
    application.router.add_post("/v1/chat/completions", generate)
    application.router.add_post("/v1/completions", generate)
    application.router.add_get("/v1/models", models)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
