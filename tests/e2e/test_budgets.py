"""Budgets over two workers of a real server: never overshot, used up, charged for what was delivered, kept by Redis."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
import redis
from e2e.counting_gateway import (
    COMPLETION,
    PROMPT,
    SOON_S,
    TOKENS,
    CountingGateway,
    Key,
    model,
    running_counting_gateway,
)
from e2e.crowd import PATIENCE_S, Reply, Talk, chat
from e2e.live_server import wait_until
from faults.canonical import TOKENS as PIECES

CROWD, COVERED = 200, 100
#: Dollars a million tokens, which are thousands of nano-dollars a token.
INPUT, OUTPUT = 1, 2
COST_NANO_USD = 1000 * (INPUT * PROMPT + OUTPUT * COMPLETION)
#: The longest answer of a request that does not say.
MOST_OUTPUT = 64
WARN_AT = 0.5
COVERED_BY_SMALL = 10


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[CountingGateway, None, None]:
    models = [
        {**model("ok"), "max_output_tokens": MOST_OUTPUT},
        {**model("slow", "slow-ok"), "max_output_tokens": MOST_OUTPUT},
        model("broken", "500-for-ever"),
    ]
    priced = [{"model": name, "input": INPUT, "output": OUTPUT} for name in ("ok", "slow", "broken")]
    with running_counting_gateway(
        tmp_path_factory.mktemp("budgets"),
        redis_settings={"timeout_s": 1.0, "request_s": 2.0},  # slow machines are no fault of Redis here
        models=models,
        prices={"models": priced},
        tenants=[{"name": "small", "budgets": [usd(COVERED_BY_SMALL)]}],
    ) as gateway:
        yield gateway


def usd(requests: int, per: str = "total") -> dict[str, Any]:
    """A budget for so many, in dollars."""
    return {"per": per, "usd": requests * COST_NANO_USD / 1e9, "warn_at": WARN_AT}


def tokens(requests: int, per: str = "total") -> dict[str, Any]:
    """The same in tokens."""
    return {"per": per, "tokens": requests * TOKENS, "warn_at": WARN_AT}


Budget = Callable[[int], dict[str, Any]]


@pytest.mark.parametrize(("budget", "cost"), [(usd, COST_NANO_USD), (tokens, TOKENS)])
def test_200_at_once_do_not_spend_more_than_there_is_and_then_all_of_it_is_spent(
    gateway: CountingGateway, budget: Budget, cost: int
) -> None:
    key = gateway.key(budgets=[budget(COVERED)])
    name = f"key {key.id}"
    gateway.upstream.reset()

    replies = gateway.race([chat(key.secret, stream=number % 2 == 0) for number in range(CROWD)])

    gateway.wait_settled()
    served = sum(reply.status == 200 for reply in replies)
    refused = [reply for reply in replies if reply.status != 200]
    assert {(reply.status, reply.code) for reply in refused} == {(429, "insufficient_quota")}
    assert len(gateway.upstream.attempts()) == served > 0
    assert gateway.budget(name)["spent"] == served * cost <= COVERED * cost
    # What had been reserved for more than it took is there for others.
    while gateway.ask(chat(key.secret)).status == 200:
        served += 1
    gateway.wait_settled()
    assert gateway.budget(name)["spent"] == served * cost
    assert 0.9 * COVERED <= served <= COVERED


def test_a_tenants_budget_is_one_for_all_its_keys(gateway: CountingGateway) -> None:
    keys = gateway.keys(*[{"tenant": "small"}] * 2)
    assert {gateway.ask(chat(key.secret)).status for key in keys * 2} == {200}
    gateway.wait_settled()
    assert gateway.budget("tenant small")["spent"] == 4 * COST_NANO_USD
    assert statuses(gateway, keys * COVERED_BY_SMALL) == {200: COVERED_BY_SMALL - 4 - 1, 429: COVERED_BY_SMALL + 5}
    assert all(gateway.group(f"key {key.id}")["budgets"] == [] for key in keys)


def test_of_many_budgets_the_one_with_the_least_left_counts(gateway: CountingGateway) -> None:
    key = gateway.key(budgets=[usd(1000), tokens(1000, "day"), usd(6, "month")])
    assert statuses(gateway, [key] * 8) == {200: 5, 429: 3}
    spent = {(one["unit"], one["per"]): one["spent"] for one in gateway.group(f"key {key.id}")["budgets"]}
    money = 5 * COST_NANO_USD
    assert spent == {("nano_usd", "total"): money, ("tokens", "day"): 5 * TOKENS, ("nano_usd", "month"): money}


def statuses(gateway: CountingGateway, keys: list[Key]) -> Counter[int]:
    """Of one request of each, one after the other."""
    found = Counter[int]()
    for key in keys:
        gateway.wait_settled()
        found[gateway.ask(chat(key.secret)).status] += 1
    gateway.wait_settled()
    return found


def test_what_is_refused_is_told_as_openai_does(gateway: CountingGateway) -> None:
    key = gateway.key(budgets=[usd(1)])
    client = openai.OpenAI(base_url=f"{gateway.server.base_url}/v1", api_key=key.secret, timeout=SOON_S)
    with client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="ok", messages=[{"role": "user", "content": "Count."}])
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_an_answer_without_a_bound_gets_one_where_a_budget_pays(gateway: CountingGateway) -> None:
    budgeted, free = gateway.keys({"budgets": [usd(10)]}, {})
    gateway.upstream.reset()
    for key in (budgeted, free):
        assert gateway.ask(chat(key.secret, max_tokens=None)).status == 200
    assert [attempt["body"].get("max_tokens") for attempt in gateway.upstream.attempts()] == [MOST_OUTPUT, None]


def test_a_warning_comes_with_answers_from_where_it_is_wanted(gateway: CountingGateway) -> None:
    covered = 10
    key = gateway.key(budgets=[usd(covered)])
    warned: list[str | None] = []
    while (reply := gateway.ask(chat(key.secret, stream=len(warned) % 2 == 0))).status == 200:
        gateway.wait_settled()
        warned.append(reply.headers.get("x-genkan-budget-warning"))
    assert len(warned) >= covered - 1
    # Each is told of what is spent with what it has reserved itself, which is less than two answers.
    assert set(warned[: int(covered * WARN_AT) - 2]) == {None}
    assert set(warned[int(covered * WARN_AT) :]) == {"API key usd per total"}
    metrics = gateway.metrics()
    assert metrics.value("budget_warnings_total", scope="key") >= covered * WARN_AT - 1
    assert metrics.value("denied_total", scope="key", kind="budget", unit="budget_nano_usd") >= 1


def test_a_failed_request_costs_nothing(gateway: CountingGateway) -> None:
    key = gateway.key(budgets=[usd(10)])
    assert gateway.ask(chat(key.secret, "broken")).status == 502
    gateway.wait_settled()
    assert gateway.budget(f"key {key.id}")["spent"] == 0


def test_who_leaves_pays_for_what_was_delivered(gateway: CountingGateway) -> None:
    read = 20
    key = gateway.key(budgets=[usd(100)])

    async def leave() -> str:
        talk = await Talk.open(gateway.port)
        talk.write(chat(key.secret, "slow", stream=True, x_delay_ms=30))
        async with asyncio.timeout(PATIENCE_S):
            _, headers = await talk.head()
            await talk.reader.readuntil(PIECES[read - 1].encode())
        await talk.aclose()
        return headers["x-request-id"]

    request_id = asyncio.run(leave())
    wait_until(lambda: request_id in [row["id"] for row in gateway.ledger()], SOON_S, "its row is there")
    (row,) = [row for row in gateway.ledger() if row["id"] == request_id]
    assert (row["state"], row["estimated"]) == ("client_gone", True)
    assert read <= row["usage"]["completion"] < COMPLETION
    assert row["cost_nano_usd"] == 1000 * (INPUT * row["usage"]["prompt"] + OUTPUT * row["usage"]["completion"])
    assert gateway.budget(f"key {key.id}")["spent"] == row["cost_nano_usd"]


def test_streams_and_whole_answers_cost_the_same(gateway: CountingGateway) -> None:
    key = gateway.key(budgets=[usd(10)])
    whole = gateway.ask(chat(key.secret))
    stream = gateway.ask(chat(key.secret, stream=True, stream_options={"include_usage": True}))
    usage = b'"cost_usd":%b' % str(COST_NANO_USD / 1e9).encode()
    assert usage in stream.body
    assert abs(float(whole.headers["x-genkan-cost-usd"]) - COST_NANO_USD / 1e9) < 1e-9
    gateway.wait_settled()
    assert gateway.budget(f"key {key.id}")["spent"] == 2 * COST_NANO_USD


def test_without_redis_a_budget_is_closed_and_nothing_else_is(gateway: CountingGateway) -> None:
    budgeted, free = gateway.keys({"budgets": [usd(1000)]}, {"limits": {"requests": {"limit": 1000}}})
    assert gateway.ask(chat(budgeted.secret)).status == 200
    gateway.wait_settled()
    pid = gateway.redis_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        both = gateway.race([chat(key.secret) for key in (budgeted, free) * 10])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answers(both[::2]) == {(503, "accounts_unavailable"): 10}
    assert answers(both[1::2]) == {(200, None): 10}
    assert all(int(reply.headers["retry-after"]) > 0 for reply in both[::2])
    wait_until(lambda: gateway.ask(chat(budgeted.secret)).status == 200, SOON_S, "it is served again")
    gateway.wait_settled()
    assert gateway.budget(f"key {budgeted.id}")["spent"] >= 2 * COST_NANO_USD


def test_what_was_spent_is_still_spent_after_redis_was_killed(gateway: CountingGateway) -> None:
    key = gateway.key(budgets=[usd(1000)])
    served = sum(gateway.ask(chat(key.secret)).status == 200 for _ in range(10))
    pid = gateway.redis_pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_another(gateway, pid), SOON_S, "Redis was started again")

    def is_served() -> bool:
        nonlocal served
        status = gateway.ask(chat(key.secret)).status
        served += status == 200
        return status == 200

    wait_until(is_served, SOON_S, "it is served again")

    def is_charged() -> bool:
        with suppress(httpx.HTTPStatusError):  # a worker that has not found it yet
            return bool(gateway.budget(f"key {key.id}")["spent"] == served * COST_NANO_USD)
        return False

    wait_until(is_charged, SOON_S, "all is charged")


def is_another(gateway: CountingGateway, pid: int) -> bool:
    with suppress(redis.RedisError):
        return gateway.redis_pid != pid
    return False


def answers(replies: list[Reply]) -> Counter[tuple[int, str | None]]:
    return Counter((reply.status, reply.code) for reply in replies)
