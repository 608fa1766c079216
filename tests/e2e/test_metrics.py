"""What two workers of a real server count, against what their clients counted; and how many series there are."""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from typing import Final

import pytest
from e2e.counting_gateway import COMPLETION, PROMPT, CountingGateway
from e2e.crowd import Talk, chat, get
from e2e.live_server import wait_until
from e2e.watched_gateway import Watched
from prometheus_client.parser import text_string_to_metric_families

from genkan.telemetry.tally import FLUSH_S

SOON_S: Final = 20.0
CHAT: Final = "/v1/chat/completions"
OK: Final = "ok@there"
USD: Final = (2 * PROMPT + 8 * COMPLETION) / 10**6  # of an answer of it
STRANGE: Final = 10_000
CONNECTIONS: Final = 32
MARK: Final = "zq9"  # in all that is made up
#: A counter or a part of a histogram, with its labels, and how much it grew.
Counted = Counter[tuple[str, tuple[tuple[str, str], ...]]]
NANO: Final = 10**9


@pytest.fixture
def gateway(watched: Watched) -> CountingGateway:
    return watched.gateway


def counted(text: str) -> Counted:
    """All of genkan's counters; of histograms how many values there are, and the sum where it is no time."""
    found = Counted()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(("genkan_", "gen_ai_")) or family.type not in ("counter", "histogram"):
            continue
        for sample in family.samples:
            is_sum = sample.name.endswith("_sum") and "_seconds_" not in sample.name
            if sample.name.endswith(("_total", "_count")) or is_sum:
                found[sample.name, tuple(sorted(sample.labels.items()))] += round(NANO * sample.value)
    return found


class Expected:
    """What the client has counted, by the names and labels that it should have."""

    def __init__(self) -> None:
        self.counts = Counted()

    def add(self, name: str, n: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += round(NANO * n)

    def replies(self, n: int, status: int, error: str | None = None, path: str = CHAT) -> None:
        """So many were answered so."""
        self.add("genkan_requests_total", n, path=path, status=str(status))
        self.add("genkan_request_seconds_count", n, path=path)
        if error is not None:
            self.add("genkan_errors_total", n, path=path, code=error)

    def operation(self, n: int, route: str, error: str = "") -> None:
        """Requests that were read, as OpenTelemetry's names have them."""
        labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "genkan", "gen_ai_request_model": route}
        self.add("gen_ai_server_request_duration_seconds_count", n, error_type=error, **labels)
        if error:
            return
        for kind, tokens in (("input", PROMPT), ("output", COMPLETION)):
            self.add("gen_ai_client_token_usage_count", n, gen_ai_token_type=kind, **labels)
            self.add("gen_ai_client_token_usage_sum", n * tokens, gen_ai_token_type=kind, **labels)

    def streams(self, n: int, route: str, *, whole: bool = True) -> None:
        """Of these, those that were streamed."""
        labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "genkan", "gen_ai_request_model": route}
        self.add("gen_ai_server_time_to_first_token_seconds_count", n, **labels)
        if whole:
            self.add("gen_ai_server_time_per_output_token_seconds_count", n, **labels)

    def attempts(self, n: int, deployment: str, outcome: str = "ok", streams: int = 0) -> None:
        """What an upstream was asked."""
        self.add("genkan_attempts_total", n, deployment=deployment, outcome=outcome)
        self.add("genkan_attempt_seconds_count", n, deployment=deployment)
        if streams:
            self.add("genkan_upstream_ttft_seconds_count", streams, deployment=deployment)

    def billed(self, n: int) -> None:
        """Answers of `ok`, whole."""
        self.add("genkan_tokens_total", n * PROMPT, deployment=OK, kind="prompt")
        self.add("genkan_tokens_total", n * COMPLETION, deployment=OK, kind="completion")
        self.add("genkan_cost_usd_total", n * USD, deployment=OK)


#: Known to the server alone: how much was delivered before it saw that the client had left, and what it stores.
UNKNOWN: Final = {"genkan_cache_stored_bytes_sum", "genkan_loop_lag_seconds_count", "genkan_trace_spans_total"}
LEFT: Final = ("deployment", "slow@there")


def grown(gateway: CountingGateway, before: Counted) -> Counted:
    """What was counted since, but for what no client knows."""
    now = counted(gateway.metrics().text)
    return Counted({
        (name, labels): n
        for (name, labels), n in (now - before).items()
        if name not in UNKNOWN and not (name == "genkan_tokens_total" and LEFT in labels)
    })  # fmt: skip


def test_every_counter_agrees_with_what_clients_counted(gateway: CountingGateway) -> None:
    key, small = (one.secret for one in gateway.keys({}, {"tenant": "small"}))
    gateway.wait_settled()
    before = quiet(gateway)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    replies = gateway.race([
        *[chat(key, "plain")] * 8,
        *[chat(key, "plain", **usage)] * 6,
        *[chat(key, f"no-such-{n}") for n in range(5)],
        *[chat(f"sk-wrong-{n}") for n in range(4)],
        *[get(key, f"/nowhere/{n}") for n in range(2)],
        *[chat(small, "plain")] * 7,
        chat(key, "falls"),
    ])  # fmt: skip
    replies.append(gateway.ask(chat(key, "kept", temperature=0)))
    wait_until(lambda: gateway.metrics().value("cache_stored_bytes_count", route="kept") == 1, SOON_S, "it is stored")
    replies += [gateway.ask(chat(key, "kept", temperature=0)) for _ in range(3)]
    asyncio.run(leave(gateway.port, chat(key, "slowly", stream=True)))
    statuses = Counter(reply.status for reply in replies)
    assert statuses == {200: 8 + 6 + 3 + 1 + 4, 404: 5 + 2, 401: 4, 429: 4}

    expected = Expected()
    expected.replies(statuses[200] + 1, 200)
    expected.replies(5, 404, "model_not_found")
    expected.replies(4, 401, "invalid_api_key")
    expected.replies(4, 429, "rate_limit_exceeded")
    expected.replies(2, 404, "unknown_url", path="other")
    expected.operation(17, "plain")
    expected.operation(4, "plain", "rate_limit_exceeded")
    expected.operation(5, "other", "model_not_found")
    expected.operation(1, "falls")
    expected.operation(4, "kept")
    expected.operation(1, "slowly", "client_gone")
    expected.streams(6, "plain")
    expected.streams(1, "slowly", whole=False)
    expected.attempts(17 + 1 + 1, OK, streams=6)
    expected.attempts(1, "broken@there", "upstream_error")
    expected.attempts(1, "slow@there", "client_gone", streams=1)
    expected.billed(17 + 1 + 1)
    expected.add("genkan_unpriced_total", deployment="slow@there")
    expected.add("genkan_fallbacks_total", route="falls", reason="upstream_error")
    expected.add("genkan_clients_gone_total", path=CHAT)
    expected.add("genkan_denied_total", 4, kind="window", scope="tenant", unit="requests")
    expected.add("genkan_ledger_settled_total", 17 + 1 + 4 + 1, outcome="settled")
    for route, n in (("plain", 17 + 4), ("falls", 1), ("slowly", 1)):
        expected.add("genkan_cache_lookups_total", n, route=route, result="bypass")
    expected.add("genkan_cache_lookups_total", 1, route="kept", result="miss")
    expected.add("genkan_cache_lookups_total", 3, route="kept", result="exact")
    expected.add("genkan_cache_stored_bytes_count", route="kept")
    expected.add("genkan_spared_tokens_total", 3 * (PROMPT + COMPLETION), deployment=OK)
    expected.add("genkan_spared_usd_total", 3 * USD, deployment=OK)
    gateway.wait_settled()
    with suppress(AssertionError):  # what differs is said below
        wait_until(lambda: differences(grown(gateway, before), expected.counts) == {}, SOON_S, "all is counted")
    assert differences(grown(gateway, before), expected.counts) == {}
    # The other worker shows its own twice a second.
    wait_until(lambda: gateway.metrics().value("requests_in_flight", path=CHAT) == 0, SOON_S, "none is under way")
    metrics = gateway.metrics()
    assert metrics.value("upstream_waiting_requests", upstream="there") == 0
    assert metrics.value("build_info") == 1


def test_series_are_bounded_whatever_clients_send(gateway: CountingGateway) -> None:
    key = gateway.key().secret
    seeded = random.Random(9)
    asyncio.run(ask_all(gateway.port, [strange(seeded, key, number) for number in range(64)]))
    quiet(gateway)
    before = series(gateway.metrics().text)
    asked = requests_of(gateway)
    asyncio.run(ask_all(gateway.port, [strange(seeded, key, number) for number in range(STRANGE)]))
    wait_until(lambda: requests_of(gateway) - asked == STRANGE, SOON_S, "all are counted")
    text = gateway.metrics().text
    assert series(text) - before == set()
    assert not any(mark in text for mark in (MARK, key))


def differences(found: Counted, expected: Counted) -> dict[str, tuple[float, float]]:
    """Found, expected; costs may differ by what floats lose."""
    return {
        str(each): (found[each] / NANO, expected[each] / NANO)
        for each in found.keys() | expected.keys()
        if abs(found[each] - expected[each]) > 10
    }


def quiet(gateway: CountingGateway) -> Counted:
    """What is counted once both workers have written all that was asked of them before."""
    last = [counted(gateway.metrics().text)]
    began_s = time.monotonic()

    def is_as_before() -> bool:
        last.append(counted(gateway.metrics().text))
        if {name for name, _ in last[-1] - last[-2]} - UNKNOWN:
            last.append(last[-1])
            nonlocal began_s
            began_s = time.monotonic()
        return time.monotonic() - began_s > 5 * FLUSH_S

    wait_until(is_as_before, SOON_S, "nothing more is counted")
    return last[-1]


async def leave(port: int, request: bytes) -> None:
    """Ask, and go when the answer has begun."""
    talk = await Talk.open(port)
    talk.write(request)
    status, _ = await talk.head()
    assert status == 200
    await talk.aclose()


def strange(seeded: random.Random, key: str, number: int) -> bytes:
    """A request with a model, a path, a key, a method or a field that nobody has used before."""
    name = f"{MARK}{seeded.getrandbits(64):x}"
    match number % 5:
        case 0:
            return chat(key, name)
        case 1:
            return get(key, f"/v1/{name}/{number}")
        case 2:
            return chat(f"sk-genkan-{name}")
        case 3:
            return get(key, f"/v1/models/{name}")
        case _:
            return chat(key, "plain", temperature=name)


async def ask_all(port: int, requests: list[bytes]) -> None:
    """All of them, over some connections."""
    waiting = iter(requests)

    async def ask_some() -> None:
        talk = await Talk.open(port)
        for request in waiting:
            reply = await talk.ask(request)
            assert reply.status in (400, 401, 404), reply
        await talk.aclose()

    await asyncio.gather(*(ask_some() for _ in range(CONNECTIONS)))


def requests_of(gateway: CountingGateway) -> float:
    return gateway.metrics().value("requests_total")


def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series there is, BentoML's too. None is there twice."""
    found = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(found) == len(set(found))
    return set(found)
