"""What stored answers cost to find, through `bentoml serve`: ``python -m genkan.bench.cache``.

Two servers in front of an upstream that answers at once. The first has no embedder: the same request again and again,
over one connection and over 64. The second knows 100,000 questions in 100 scopes, each a system prompt of its own, and
is asked what is like one of them, and what is like none, embedding included. Prints a table and, as its last line, one
JSON object.
"""

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import numpy as np
import uvloop

from genkan.bench import chat_traffic as traffic
from genkan.bench import report
from genkan.bench.cores import Cores, divide, pinned
from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.http_load import Call, Check, connected
from genkan.bench.rounds import Rounds, interleaved
from genkan.bench.server_process import Command, ServerFailed, ServerProcess, interruptible, running
from genkan.cache.index.base import Entry
from genkan.cache.index.probe import index_in
from genkan.cache.observer import Unobserved
from genkan.cache.scope import Scopes
from genkan.cache.sealer import Sealer
from genkan.clock import SystemClock
from genkan.config import Config, load
from genkan.gateway.answering_identity import answering_identities
from genkan.store.address import parse_address
from genkan.store.resp import RespClient
from genkan.wire.caller import LOCAL_TENANT
from genkan.wire.chat import ChatRequest

ROUTE = "default"
SCOPES = 100
DIMENSIONS = 384
ALONE, CROWD = 1, 64  # connections
_CACHED = b'"cached":true'
_SECRET = "GENKAN_KEY_SECRET"  # noqa: S105 - the name of a variable
_BENTOML = str(Path(sys.executable).with_name("bentoml"))
#: What is asked first, and what asks the same in other words.
_FIRST = "How do I reset my password?"
_LIKE = ("How can I reset my password?", "What is the way to reset my password?", "How to reset my password")
_READY = b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
_UPSTREAM = Command("the fake upstream", [sys.executable, "-m", "genkan.bench.fake_upstream", "{port}"])


def question(scope: int, text: str, **more: Any) -> dict[str, Any]:
    """A request of one of the scopes; the upstream wants a number in it."""
    system = f"You are the help desk of shop {scope}. This is request {scope:010d}."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": ROUTE, "messages": messages, "temperature": 0, "max_tokens": 64, **more}


def written(port: int, body: Mapping[str, Any]) -> bytes:
    """The request as it goes over the wire."""
    data = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (port, len(data), data)
    )


def check_hit(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it was stored."""
    if answer.status != 200 or _CACHED not in answer.body:
        raise WrongAnswer(f"status {answer.status}, and no stored answer")


def check_missed(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless nothing was found."""
    if answer.status != 404:
        raise WrongAnswer(f"status {answer.status} instead of 404")


def check_any(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is an answer."""
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status}")


def measure(server: ServerProcess, calls: Iterator[Call], connections: int, seconds: float) -> Mapping[str, float]:
    """See ``Measured.figures``, and ``busy``: the cores that the server's processes kept busy. Raises WrongAnswer."""
    return uvloop.run(_measure(server, calls, connections, seconds))


async def _measure(
    server: ServerProcess, calls: Iterator[Call], connections: int, seconds: float
) -> Mapping[str, float]:
    async with connected(server.port, connections) as generator:
        await generator.run(_for(calls, seconds / 5))
        before_s = server.cpu_s()
        measured = await generator.run(_for(calls, seconds))
        return {**measured.figures(), "busy": (server.cpu_s() - before_s) / measured.elapsed_s}


def _for(calls: Iterator[Call], seconds: float) -> Iterator[Call]:
    end_s = time.perf_counter() + seconds
    return takewhile(lambda _: time.perf_counter() < end_s, calls)


def _calls(requests: Iterator[bytes], check: Check) -> Iterator[Call]:
    return (Call(request, number, check) for number, request in enumerate(requests))


def exact(cores: Cores, upstream: str, seconds: float, rounds: int) -> Rounds:
    """One stored answer, streamed and not, over one connection and over many."""
    with running(_genkan("genkan", upstream, {}, "x" * 32), cores.server) as server:
        server.wait_until_answered(written(server.port, question(0, _FIRST)))
        server.move("redis-server", cores.load)
        arms = {
            f"{kind}, {connections}": partial(_exact, server, stream, connections, seconds)
            for kind, stream in (("whole", False), ("stream", True))
            for connections in (ALONE, CROWD)
        }
        return interleaved("exact hits", arms, rounds)


def _exact(server: ServerProcess, stream: bool, connections: int, seconds: float) -> Mapping[str, float]:
    request = written(server.port, question(0, _FIRST, stream=stream))
    check = check_streamed if stream else check_hit
    return measure(server, _calls(itertools.repeat(request), check), connections, seconds)


def check_streamed(answer: Answer, _: int) -> None:
    """Raises WrongAnswer unless it is a stream to its end."""
    if answer.status != 200 or not answer.body.endswith(b"data: [DONE]\n\n"):
        raise WrongAnswer(f"status {answer.status}, or no end of the stream")


def semantic(cores: Cores, upstream: str, seconds: float, rounds: int, entries: int) -> Rounds:
    """What is like a known question, and what is like none, with so many known in all scopes."""
    secret = secrets.token_hex(32)
    route = {"alias": ROUTE, "chain": [traffic.MODEL], "cache": {"semantic": "on"}}
    settings = {"routes": [route], "embedder": {}, "cache": {"index_entries": 2 * entries}}
    with running(_genkan("genkan with an embedder", upstream, settings, secret), cores.server | cores.load) as server:
        server.wait_until_answered(_READY)  # the embedder too
        for scope in range(SCOPES):
            uvloop.run(_ask(server.port, question(scope, _FIRST)))
        uvloop.run(_fill(server, secret, entries))
        likes = itertools.cycle(
            written(server.port, question(scope, text, genkan={"cache": "only"}))
            for text in _LIKE
            for scope in range(SCOPES)
        )
        arms = {
            "like one": partial(measure, server, _calls(likes, check_hit), ALONE, seconds),
            "like none": partial(measure, server, _calls(_strange(server.port), check_missed), ALONE, seconds),
        }
        return interleaved("semantic", arms, rounds)


def _strange(port: int) -> Iterator[bytes]:
    """Questions that nothing known is like, no two alike."""
    for number in itertools.count():
        text = f"Does the blue lamp of type {number} fit into a ceiling of {number % 97} centimetres?"
        yield written(port, question(number % SCOPES, text, genkan={"cache": "only"}))


async def _ask(port: int, body: Mapping[str, Any]) -> None:
    async with connected(port, 1) as generator:
        measured = await generator.run(iter([Call(written(port, body), 0, check_any)]))
        measured.raise_for_errors()


async def _fill(server: ServerProcess, secret: str, entries: int) -> None:
    """Have every scope know its share of ``entries`` questions, with random vectors, and wait until the server does."""
    path = server.folder / "genkan.yaml"
    config = load(path, {})
    url = (server.folder / "data" / "redis.url").read_text()
    address = parse_address(url, [])
    client = RespClient(address, connect_s=2.0, timeout_s=5.0)
    await client.start()
    index = await index_in(
        client,
        address,
        wanted="memory",
        prefix=config.redis.prefix,
        embedder=_embedder_of(config),
        sealer=Sealer(secret.encode(), encrypt=False),
        clock=SystemClock(),
        observer=Unobserved(),
        longest_s=config.cache.max_ttl_s,
        max_entries=2 * entries,
        connect_s=2.0,
        timeout_s=5.0,
    )
    await index.start()
    try:
        for scope, partition in enumerate(_partitions(config, secret)):
            vectors = np.random.default_rng(scope).standard_normal((entries // SCOPES, DIMENSIONS), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            expires_s = time.time() + 3600
            for number, vector in enumerate(vectors):
                text = f"Is question {number} of scope {scope} known?"
                key = os.urandom(16)
                await index.add(Entry(key, partition, text, vector, expires_s, LOCAL_TENANT, ROUTE))
        await _known(server.port, entries)
    finally:
        await index.aclose()
        await client.aclose()


def _embedder_of(config: Config) -> str:
    assert config.embedder is not None
    return f"{config.embedder.model} {config.embedder.prefix}"


def _partitions(config: Config, secret: str) -> Iterator[bytes]:
    scopes, identity = Scopes(secret.encode()), answering_identities(config)[ROUTE]
    for scope in range(SCOPES):
        request = ChatRequest.from_object(question(scope, _FIRST))
        yield scopes.of(
            request, tenant=LOCAL_TENANT, route=ROUTE, models=identity, normalised=True, per_user=False
        ).partition


async def _known(port: int, entries: int) -> None:
    async with asyncio.timeout(60):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /admin/cache HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: close\r\n\r\n" % port)
            told = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
            writer.close()
            if told["questions"]["entries"] >= entries:
                return
            await asyncio.sleep(0.1)


def _genkan(name: str, upstream: str, settings: dict[str, Any], secret: str) -> Command:
    key = "BENCH_UPSTREAM_KEY"
    config: dict[str, Any] = {
        "upstreams": [{"name": "fake", "kind": "openai", "base_url": f"{upstream}/v1", "api_key_env": key}],
        "models": [{"name": traffic.MODEL, "upstream": "fake"}],
        "routes": [{"alias": ROUTE, "chain": [traffic.MODEL]}],
        "prices": {"models": [{"model": traffic.MODEL, "input": 2, "output": 8}]},
        "limits": {"tenant": {"requests": {"limit": 10**9}, "tokens": {"limit": 10**12}, "concurrent": 10_000}},
    } | settings
    environ = {"GENKAN_CONFIG": "{folder}/genkan.yaml", key: f"sk-bench-{secrets.token_hex(16)}", _SECRET: secret}
    line = [_BENTOML, "serve", ".", "--host", "127.0.0.1", "--port", "{port}"]
    return Command(name, line, environ, {"genkan.yaml": json.dumps(config)})


def _table(title: str, rounds: Rounds) -> str:
    metrics = ("rps", "p50_ms", "p99_ms", "busy")
    return report.table(title, {arm: {name: rounds.median(arm, name) for name in metrics} for arm in rounds.arms})


def _summary(rounds: Rounds) -> dict[str, Any]:
    return {arm: {name: rounds.median(arm, name) for name in ("rps", "p50_ms", "p99_ms")} for arm in rounds.arms}


@click.command()
@click.option("--quick", is_flag=True, help="Half a second each and one round: shows that it works, measures nothing.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--entries", type=click.IntRange(min=SCOPES), default=100_000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, rounds: int, entries: int, out: Path) -> None:
    """Exact hits, and like questions among many."""
    seconds, rounds = (0.5, 1) if quick else (3.0, rounds)
    cores = divide()
    try:
        with interruptible(), pinned(cores.load), running(_UPSTREAM, cores.load) as upstream:
            url = f"http://127.0.0.1:{upstream.port}"
            found = exact(cores, url, seconds, rounds)
            like = semantic(cores, url, seconds, rounds, entries)
    except (ServerFailed, WrongAnswer) as error:
        raise click.ClickException(str(error)) from None
    print(_table("exact hits, connections", found))
    print(_table(f"like questions, {entries:,} known in {SCOPES} scopes, one connection", like))
    report.finish(out, "cache", {"exact": _summary(found), "semantic": _summary(like)})


if __name__ == "__main__":
    main()
