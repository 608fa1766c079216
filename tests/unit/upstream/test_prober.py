"""The health probe, whose sleep ends when the test says so."""

import asyncio
import logging
from itertools import pairwise

import pytest
from model_servers import Handler, Server, answering, hanging_up, model_server, silent

from genkan.config import HealthConfig, OpenAiUpstreamConfig
from genkan.upstream.credentials import Credential
from genkan.upstream.prober import HealthProber, ProbeResult

pytestmark = pytest.mark.anyio

KEY = Credential("sk-9fQ2mZ7cLxV4tB8nR1wK6yH3")
WAIT_S = 5.0


class Rounds:
    """A sleep that lasts until ``next``, and what the prober has told and slept so far."""

    def __init__(self) -> None:
        self.results: list[tuple[str, ProbeResult]] = []
        self.slept_s: list[float] = []
        self.fail_once = False
        self._wake = asyncio.Event()
        self._asleep = asyncio.Event()

    def on_result(self, upstream: str, result: ProbeResult) -> None:
        self.results.append((upstream, result))
        if self.fail_once:
            self.fail_once = False
            raise RuntimeError("a listener's bug")

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def probed(self) -> None:
        """Returns when the prober of one upstream sleeps."""
        async with asyncio.timeout(WAIT_S):
            await self._asleep.wait()
        self._asleep.clear()

    async def next(self) -> None:
        self._wake.set()
        await self.probed()


def upstream(
    server: Server, name: str = "up", interval_s: float = 15.0, timeout_s: float = 5.0
) -> OpenAiUpstreamConfig:
    health = HealthConfig(interval_s=interval_s, timeout_s=timeout_s)
    return OpenAiUpstreamConfig(name=name, kind="openai", base_url=server.base_url, api_key_env="K", health=health)


@pytest.mark.parametrize(
    ("handler", "timeout_s", "result"),
    [
        (answering(b'{"data": []}'), 5, ProbeResult.HEALTHY),
        (answering(b"not found", "404 Not Found"), 5, ProbeResult.HEALTHY),
        (answering(b"slow down", "429 Too Many Requests"), 5, ProbeResult.HEALTHY),
        (answering(b"", "302 Found", "location: https://elsewhere.example\r\n"), 5, ProbeResult.HEALTHY),
        (answering(b"no", "401 Unauthorized"), 5, ProbeResult.REFUSED_CREDENTIAL),
        (answering(b"no", "403 Forbidden"), 5, ProbeResult.HEALTHY),
        (answering(b'[{"reason": "API_KEY_INVALID"}]', "400 Bad Request"), 5, ProbeResult.REFUSED_CREDENTIAL),
        (answering(b"oops", "500 Oops"), 5, ProbeResult.DOWN),
        (answering(b"busy", "503 Busy"), 5, ProbeResult.DOWN),
        (hanging_up(b""), 5, ProbeResult.DOWN),
        (hanging_up(b"SSH-2.0-OpenSSH_9.6\r\n"), 5, ProbeResult.DOWN),
        (silent(), 0.05, ProbeResult.DOWN),
    ],
    ids=[
        "200", "404", "429", "302", "401", "403", "Google's 400", "500", "503", "hangs up", "not HTTP", "silent",
    ],
)  # fmt: skip
async def test_tells_what_a_probe_found(handler: Handler, timeout_s: float, result: ProbeResult) -> None:
    rounds = Rounds()
    async with model_server(handler) as server:
        prober = HealthProber([(upstream(server, timeout_s=timeout_s), KEY)], rounds.on_result, sleep=rounds.sleep)
        await prober.start()
        await rounds.probed()
        await prober.aclose()
    assert rounds.results == [("up", result)]


async def test_a_server_that_is_gone_is_down_and_comes_back() -> None:
    rounds = Rounds()
    async with model_server(answering(b'{"data": []}')) as server:
        prober = HealthProber([(upstream(server), KEY)], rounds.on_result, sleep=rounds.sleep)
        await prober.start()
        await rounds.probed()
        await server.stop()
        await rounds.next()
        await server.start()
        await rounds.next()
        await prober.aclose()
    assert [result for _, result in rounds.results] == [ProbeResult.HEALTHY, ProbeResult.DOWN, ProbeResult.HEALTHY]


async def test_asks_with_the_key_at_once_and_then_about_every_interval() -> None:
    rounds = Rounds()
    async with model_server(answering(b'{"data": []}')) as server:
        prober = HealthProber([(upstream(server, interval_s=10), KEY)], rounds.on_result, sleep=rounds.sleep)
        await prober.start()
        await rounds.probed()
        for _ in range(19):
            await rounds.next()
        await prober.aclose()
        requests = server.requests
    assert len(requests) == len(rounds.results) == 20
    assert all(f"authorization: bearer {KEY.value}".lower() in request.lower() for request in requests)
    assert all(9 <= slept_s <= 11 for slept_s in rounds.slept_s)
    assert any(abs(one - other) > 0.01 for one, other in pairwise(rounds.slept_s)), "no jitter"


async def test_each_upstream_is_asked_on_its_own_and_one_without_an_interval_never() -> None:
    told = asyncio.Event()
    results: list[tuple[str, ProbeResult]] = []

    def on_result(name: str, result: ProbeResult) -> None:
        results.append((name, result))
        told.set()

    async with model_server(silent()) as stuck, model_server(answering(b"{}")) as well:
        never = upstream(well, "never", interval_s=0)
        upstreams = [(upstream(stuck, "stuck"), KEY), (upstream(well, "well"), KEY), (never, KEY)]
        prober = HealthProber(upstreams, on_result)
        await prober.start()
        async with asyncio.timeout(WAIT_S):
            await told.wait()
        await prober.aclose()
        assert len(well.requests) == 1
    assert results == [("well", ProbeResult.HEALTHY)]


async def test_a_listener_that_fails_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rounds = Rounds()
    rounds.fail_once = True
    async with model_server(answering(b"{}")) as server:
        prober = HealthProber([(upstream(server), KEY)], rounds.on_result, sleep=rounds.sleep)
        with caplog.at_level(logging.ERROR, "genkan.upstream"):
            await prober.start()
            await rounds.probed()
            await rounds.next()
        await prober.aclose()
    assert len(rounds.results) == 2
    assert "the health probe of up failed" in caplog.text
    assert KEY.value is not None
    assert KEY.value not in caplog.text


async def test_closing_ends_a_probe_under_way_and_twice_is_once() -> None:
    results: list[str] = []
    async with model_server(silent()) as server:
        prober = HealthProber([(upstream(server, timeout_s=600), KEY)], lambda name, _: results.append(name))
        await prober.start()
        async with asyncio.timeout(WAIT_S):
            await server.asked.wait()
            await prober.aclose()
            await prober.aclose()
    assert results == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe ")]
