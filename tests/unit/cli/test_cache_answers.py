"""``genkan cache stats`` and ``genkan cache purge``, on a real Redis."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from redis import Redis
from redis_servers import RunningRedis, running_redis

from genkan.cache.exact import ExactTier
from genkan.cache.observer import Unobserved
from genkan.cache.scope import Scope
from genkan.cache.sealer import Sealer
from genkan.cache.stored_answer import StoredAnswer
from genkan.cli.cache import cache
from genkan.clock import SystemClock
from genkan.store.address import parse_address
from genkan.store.redis_answers import RedisAnswers
from genkan.store.resp import RespClient
from genkan.wire.usage import Usage

OWNERS = (("acme", "chat"), ("acme", "fast"), ("bolt", "chat"))


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as redis:
        configure(tmp_path, monkeypatch, redis={"url": redis.url})
        yield redis


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: object) -> None:
    settings = {
        "upstreams": [{"name": "e", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "e"}],
        **sections,
    }
    path = folder / "genkan.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.setenv("GENKAN_CONFIG", str(path))


def genkan(*arguments: str) -> Result:
    return CliRunner().invoke(cache, arguments)


def on_tier(redis: RunningRedis, use: Callable[[ExactTier], Awaitable[None]]) -> None:
    """Use the exact tier as a server would."""

    async def used() -> None:
        client = RespClient(parse_address(redis.url), connect_s=5.0, timeout_s=5.0)
        await client.start()
        answers = RedisAnswers(client, prefix="genkan")
        sealer = Sealer(b"a secret of thirty-two characters", encrypt=False)
        await use(ExactTier(answers, sealer, SystemClock(), Unobserved(), max_answer_bytes=1 << 20))
        await client.aclose()

    asyncio.run(used())


def scope_of(place: int) -> Scope:
    digest = bytes([place]) * 16
    return Scope(digest, digest, digest, "How do I pay?")


def answer_for(scope: Scope) -> StoredAnswer:
    now_s = SystemClock().unix()
    return StoredAnswer(
        is_chat=True, text="By card.", model="m", usage=Usage(5, 3, 0), created_s=int(now_s), deployment="m@e",
        partition=scope.partition, exact=scope.exact, key=scope.key, stored_s=now_s, expires_s=now_s + 600.0,
    )  # fmt: skip


def store_all(redis: RunningRedis) -> None:
    """One answer for each of OWNERS."""

    async def put(tier: ExactTier) -> None:
        for place, (tenant, route) in enumerate(OWNERS):
            scope = scope_of(place)
            look = tier.look(scope, tenant=tenant, route=route, timeout_s=5.0)
            assert await look.found() is None
            look.put(answer_for(scope), ttl_s=600.0)
        assert await tier.read(scope_of(0).key, tenant="acme", route="chat", timeout_s=5.0)  # sent in order

    on_tier(redis, put)


def left(redis: RunningRedis) -> list[tuple[str, str]]:
    """Whose answers can still be read."""
    found = list[tuple[str, str]]()

    async def look(tier: ExactTier) -> None:
        for place, (tenant, route) in enumerate(OWNERS):
            if await tier.look(scope_of(place), tenant=tenant, route=route, timeout_s=5.0).found() is not None:
                found.append((tenant, route))

    on_tier(redis, look)
    return found


def test_stats_count_answers_their_bytes_and_questions(redis: RunningRedis) -> None:
    nothing = json.loads(genkan("stats", "--json").stdout)
    assert nothing == {"answers": 0, "bytes": 0, "complete": True, "question_records": 0}
    store_all(redis)
    with Redis(unix_socket_path=str(redis.socket)) as client:
        for embedder in ("a1", "b2"):
            client.xadd(f"genkan:questions:{embedder}", {"r": b"x"})
        client.set("genkan:questions:c3:no-stream", "x")
        n_bytes = sum(client.strlen(key) for key in client.scan_iter("genkan:answer:*"))
    result = genkan("stats", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"answers": 3, "bytes": n_bytes, "complete": True, "question_records": 2}
    assert [line.split() for line in genkan("stats").stdout.splitlines()] == [
        ["answers", "3"],
        ["bytes", f"{n_bytes:,}"],
        ["questions", "2", "records"],
    ]


@pytest.mark.parametrize(
    ("options", "still_there"),
    [
        (("--tenant", "acme"), [("bolt", "chat")]),
        (("--route", "chat"), [("acme", "fast")]),
        (("--all",), []),
        (("--tenant", "chat"), list(OWNERS)),  # a tenant is no route
    ],
)
def test_purge_makes_answers_unreadable(
    redis: RunningRedis, options: tuple[str, ...], still_there: list[tuple[str, str]]
) -> None:
    store_all(redis)
    assert left(redis) == list(OWNERS)
    result = genkan("purge", *options)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"purged: {options[-1].removeprefix('--')}" in result.stderr
    assert left(redis) == still_there


@pytest.mark.parametrize(
    "options", [(), ("--tenant", ""), ("--tenant", "a", "--route", "b"), ("--all", "--tenant", "a")]
)
def test_what_is_to_be_purged_must_be_clear(redis: RunningRedis, options: tuple[str, ...]) -> None:
    store_all(redis)
    result = genkan("purge", *options)
    assert (result.exit_code, "one of --tenant, --route and --all" in result.stderr) == (2, True)
    assert left(redis) == list(OWNERS)


def test_answers_in_a_redis_of_their_own(redis: RunningRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_all(redis)
    configure(tmp_path, monkeypatch, redis={"url": "memory"}, cache={"url_env": "ANSWERS_URL"})
    result = genkan("stats")
    assert (result.exit_code, "ANSWERS_URL is not set" in result.stderr) == (1, True)
    monkeypatch.setenv("ANSWERS_URL", redis.url)
    assert json.loads(genkan("stats", "--json").stdout)["answers"] == 3


def test_without_redis_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path, monkeypatch, redis={"url": f"unix://{tmp_path}/none"})
    for command in (["stats"], ["purge", "--all"]):
        result = genkan(*command)
        assert (result.exit_code, "cannot be reached" in result.stderr) == (1, True)
