import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hand_clock import HandClock
from prometheus_client import CollectorRegistry
from redis_faults import until
from redis_servers import running_redis

from genkan import books
from genkan.books import Books, journal_name
from genkan.config import Config
from genkan.config.store import RedisConfig
from genkan.store.accounts import Admission, Amounts, Line, Settlement, Unit
from genkan.store.address import parse_address
from genkan.telemetry.account_metrics import AccountMetrics
from genkan.telemetry.tally import Tally


def made(folder: Path, url: str, clock: HandClock | None = None) -> Books:
    config = Config.model_validate(
        {
            "redis": {"data_dir": str(folder), "url": url},
            "limits": {"lease_s": 90.0},
            "upstreams": [{"name": "u", "kind": "openai", "base_url": "https://h.example/v1"}],
            "models": [{"name": "m", "upstream": "u"}],
        }
    )
    metrics = AccountMetrics(Tally(), CollectorRegistry())
    return Books(config, {}, clock or HandClock(), metrics)


def segments(folder: Path) -> list[Path]:
    return [*folder.glob("journal-*/*.journal")]


def named(url: str, *, prefix: str = "genkan", sentinels: Sequence[str] = ()) -> str:
    return journal_name(RedisConfig(url_env="URL", prefix=prefix), parse_address(url, sentinels))


def test_each_redis_and_prefix_has_a_journal_of_its_own() -> None:
    names = [
        named("redis://h:1"),
        named("redis://h:2"),
        named("redis://h:1/3"),
        named("redis://h:1", prefix="staging"),
        named("unix:///h"),
        named("redis://h", sentinels=["s:1"]),
        named("redis://h", sentinels=["s:2"]),
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"journal-[0-9a-f]{8}", name) for name in names)


def test_it_stays_the_same_whoever_enters_and_however() -> None:
    urls = ("redis://h", "redis://u:secret@H:6379/0", "rediss://:other@h", "redis://h?db=0")
    assert len({named(url) for url in urls}) == 1
    assert named("redis://m", sentinels=["a:1", "b:2"]) == named("redis://m", sentinels=["b:2", "a:1"])


def test_that_of_the_embedded_redis_does_not_depend_on_its_socket() -> None:
    names = {journal_name(RedisConfig(), parse_address(f"unix:///tmp/{socket}")) for socket in "ab"}
    assert names == {"journal-embedded"}


@pytest.mark.anyio
async def test_what_was_counted_locally_is_forgotten_though_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "_TIDY_EVERY_S", 0.0)
    clock = HandClock()
    ours = made(tmp_path, "memory", clock)
    await ours.start()
    for number in range(3000):
        line = Line(f"{number}", "bucket", Unit.REQUESTS, limit=1, window_s=60.0, burst=1)
        await ours.local.admit(Admission(f"r{number}", (line,), Amounts()))
    assert len(ours.local) > 1000
    clock.advance(61.0)
    await until(lambda: len(ours.local) == 0)
    await ours.aclose()


@pytest.mark.anyio
async def test_requests_are_held_for_as_long_as_is_configured(tmp_path: Path) -> None:
    clock = HandClock()
    ours = made(tmp_path, "memory", clock)
    await ours.accounts.admit(Admission("r", (), Amounts(), b"{}"), timeout_s=1.0)
    clock.advance(89.9)
    assert await ours.accounts.close_lost() == 0
    clock.advance(0.1)
    assert await ours.accounts.close_lost() == 1
    await ours.aclose()


@pytest.mark.anyio
async def test_a_redis_that_may_drop_budgets_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("embedded", tmp_path, "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru") as redis:
        ours = made(tmp_path, redis.url)
        await ours.start()
        ours.ledger.settle(Settlement("r", (), Amounts(), Amounts(), b'{"id":"r"}'))
        assert len(segments(tmp_path)) == 1
        await until(lambda: any(record.levelno == logging.ERROR for record in caplog.records))
        await ours.aclose()
    assert "maxmemory-policy is allkeys-lru" in caplog.text
