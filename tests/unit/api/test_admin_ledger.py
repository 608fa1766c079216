"""The ledger over HTTP, and what it adds up to."""

import asyncio
import csv
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgi import AsgiClient
from ledger_rows import DAY_1, LedgerClock, append, attempt, lost_row, memory_ledger, row

from genkan.api.admin_ledger import MOST_ROWS, LedgerEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.config import LedgerConfig, ServerConfig
from genkan.errors import StoreLost
from genkan.store.accounts import Accounts, Admission, Amounts, Settlement
from genkan.store.memory_accounts import MemoryAccounts
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio

BY_PLACE = Doorkeeper(ServerConfig(open_to="any")).admit
PATHS = ("/admin/ledger", "/admin/savings", "/admin/cost/report")
DAY_S = 86_400


def api(
    accounts: Accounts,
    clock: LedgerClock | None = None,
    admit: Callable[[Exchange], None] = BY_PLACE,
) -> Api:
    endpoint = LedgerEndpoint(accounts, clock or LedgerClock(), keep_days=90)
    methods = (endpoint.rows, endpoint.savings, endpoint.report)
    return Api({path: {"GET": method} for path, method in zip(PATHS, methods, strict=True)}, admit, [])


async def get(app: Api, path: str) -> AsgiClient:
    return await AsgiClient(app).request("GET", path)


async def answer(app: Api, path: str) -> dict[str, Any]:
    client = await get(app, path)
    assert client.status == 200, client.body
    return dict(json.loads(client.body))


async def ledger_of(*rows: bytes) -> MemoryAccounts:
    accounts = memory_ledger()
    await append(accounts, rows)
    return accounts


class Lost(MemoryAccounts):
    """Redis, gone."""

    async def rows(self, after: str = "", *, at_most: int = 1000) -> list[tuple[str, bytes]]:
        raise StoreLost("Redis is not there")


async def test_rows_page_by_page_with_a_cursor_until_there_are_none() -> None:
    rows = [row(f"req_{number}") for number in range(25)]
    app, after = api(await ledger_of(*rows)), ""
    bodies, counts = list[bytes](), list[int]()
    while not counts or counts[-1]:
        client = await get(app, f"/admin/ledger?limit=10&after={after}")
        assert client.headers["content-type"] == "application/x-ndjson"
        bodies.append(client.body)
        counts.append(int(client.headers["x-genkan-rows"]))
        after = client.headers["x-genkan-cursor"]
    assert counts == [10, 10, 5, 0]
    assert b"".join(bodies) == b"".join(raw + b"\n" for raw in rows)


async def test_the_cursor_goes_on_where_rows_are_appended_later() -> None:
    accounts = await ledger_of(row("a"))
    app = api(accounts)
    after = (await get(app, "/admin/ledger")).headers["x-genkan-cursor"]
    await append(accounts, [row("b")])
    assert (await get(app, f"/admin/ledger?after={after}")).body == row("b") + b"\n"


async def test_pages_of_csv_are_one_file() -> None:
    app = api(await ledger_of(row("a"), row("b")))
    first = await get(app, "/admin/ledger?format=csv&limit=1")
    second = await get(app, f"/admin/ledger?format=csv&after={first.headers['x-genkan-cursor']}")
    assert first.headers["content-type"] == "text/csv; charset=utf-8"
    found = list(csv.DictReader((first.body + second.body).decode().splitlines()))
    assert [line["id"] for line in found] == ["a", "b"]


async def test_a_line_for_each_attempt() -> None:
    app = api(await ledger_of(row("a", attempts=[attempt(1), attempt(2)])))
    lines = (await get(app, "/admin/ledger?attempts=true")).body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a.1", "a.2"]


async def test_malformed_rows_are_left_out_and_told_of() -> None:
    accounts = await ledger_of(row("a"))
    bad = Settlement("b", (), Amounts(), Amounts(), b'{"id":"b"}', was_admitted=False)
    await accounts.settle([bad])
    client = await get(api(accounts), "/admin/ledger")
    assert client.body == row("a") + b"\n"
    assert (client.headers["x-genkan-rows"], client.headers["x-genkan-malformed-rows"]) == ("2", "1")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("/admin/ledger?after=x", "after"),
        ("/admin/ledger?after=5", "after"),
        ("/admin/ledger?after=1-1%0d%0ax:y", "after"),
        ("/admin/ledger?limit=0", "limit"),
        (f"/admin/ledger?limit={MOST_ROWS + 1}", "limit"),
        ("/admin/ledger?limit=-1", "limit"),
        ("/admin/ledger?limit=%D9%A3", "limit"),
        ("/admin/ledger?format=xml", "format"),
        ("/admin/ledger?attempts=1", "attempts"),
        ("/admin/ledger?x=1", "x"),
        ("/admin/ledger?limit=1&limit=2", "limit"),
        ("/admin/savings?by=model", "by"),
        ("/admin/cost/report?by=colour", "by"),
        ("/admin/cost/report?since=yesterday", "since"),
        ("/admin/cost/report?since=20261130", "since"),
        ("/admin/cost/report?until=2026-W48-1", "until"),
        ("/admin/cost/report?until=2026-02-30", "until"),
    ],
)
async def test_a_wrong_parameter_is_named(query: str, param: str) -> None:
    client = await get(api(await ledger_of()), query)
    assert (client.status, client.error["param"]) == (400, param)


@pytest.mark.parametrize("path", PATHS)
async def test_is_for_admins(path: str) -> None:
    accounts = await ledger_of(row())
    assert (await AsgiClient(api(accounts), peer="192.0.2.7").request("GET", path)).status == 401

    def as_user(exchange: Exchange) -> None:
        exchange.caller = Caller(exchange.request_id, "acme", "key_1")

    client = await get(api(accounts, admit=as_user), path)
    assert (client.status, b"req_1" in client.body) == (403, False)


@pytest.mark.parametrize("path", PATHS)
async def test_no_proxy_keeps_a_copy(path: str) -> None:
    client = await get(api(await ledger_of(row())), path)
    assert (client.status, client.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("path", PATHS)
async def test_without_redis_it_is_unavailable(path: str) -> None:
    client = await get(api(Lost(LedgerClock(), ledger=LedgerConfig())), path)
    assert (client.status, client.error["code"]) == (503, "accounts_unavailable")
    assert int(client.headers["retry-after"]) > 0


async def test_savings_by_model_and_in_all() -> None:
    own = attempt(deployment="smollm2@engine", cost_nano_usd=0)
    app = api(await ledger_of(row("a"), row("b", attempts=[own], saved_nano_usd=0)))
    found = await answer(app, "/admin/savings")
    assert (found["since"], found["requests"], found["saved_tokens"]) == ("2026-11-30T00:01:00+00:00", 2, 8)
    assert (found["saved_nano_usd"], found["saved_usd"]) == (6_000, 0.000006)
    assert {model["model"]: model["saved_nano_usd"] for model in found["models"]} == {"gpt-4.1": 6_000, "smollm2": 0}


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["gpt-4.1"]),
        ("key", ["key_1", None]),
        ("tenant", ["acme", "b"]),
        ("route", ["default"]),
        ("day", ["2026-11-30", "2026-12-01"]),
    ],
)
async def test_reports_by(by: str, names: list[str | None]) -> None:
    other = row("b", tenant="b", key=None, t=DAY_1 + DAY_S, cost_nano_usd=1)
    found = await answer(api(await ledger_of(row("a"), other)), f"/admin/cost/report?by={by}")
    assert [group[by] for group in found["groups"]] == names
    assert found["total"]["cost_nano_usd"] == 54_001
    assert found["total"]["cost_usd"] == 0.000054001


async def test_reports_on_days() -> None:
    rows = [row(str(day), t=DAY_1 + day * DAY_S) for day in range(5)]
    found = await answer(api(await ledger_of(*rows)), "/admin/cost/report?since=2026-12-01&until=2026-12-03")
    assert (found["total"]["requests"], found["by"]) == (3, "model")


async def test_reads_only_what_is_new() -> None:
    accounts = await ledger_of(row("a"))
    asked: list[str] = []
    rows = accounts.rows

    async def watched(after: str = "", *, at_most: int = 1000) -> list[tuple[str, bytes]]:
        asked.append(after)
        return await rows(after, at_most=at_most)

    accounts.rows = watched  # type: ignore[method-assign]  # to see what is asked of the real ones
    app = api(accounts)
    assert (await answer(app, "/admin/savings"))["requests"] == 1
    await append(accounts, [row("b")])
    asked.clear()
    assert (await answer(app, "/admin/cost/report"))["total"]["requests"] == 2
    assert "" not in asked


async def test_those_who_ask_at_once_count_nothing_twice() -> None:
    rows = [row(f"req_{number}") for number in range(1200)]
    app = api(await ledger_of(*rows))
    answers = await asyncio.gather(*(answer(app, "/admin/cost/report") for _ in range(5)))
    assert [found["total"]["requests"] for found in answers] == [1200] * 5


async def test_one_who_goes_away_while_it_reads_spoils_nothing() -> None:
    rows = [row(f"req_{number}") for number in range(2000)]
    app = api(await ledger_of(*rows))
    task = asyncio.create_task(get(app, "/admin/savings"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    assert (await answer(app, "/admin/savings"))["requests"] == 2000


async def test_a_lost_request_that_is_found_is_counted_once() -> None:
    clock = LedgerClock()
    accounts = memory_ledger(clock)
    await accounts.admit(Admission("req_1", (), Amounts(), lost_row()))
    clock.passed_s = 60
    assert await accounts.close_lost() == 1
    app = api(accounts, clock)
    assert (await answer(app, "/admin/cost/report"))["total"]["lost"] == 1
    assert await accounts.settle([Settlement("req_1", (), Amounts(), Amounts(), row())]) == ["late"]
    total = (await answer(app, "/admin/cost/report"))["total"]
    assert (total["requests"], total["lost"], total["cost_nano_usd"]) == (1, 0, 54_000)
    lines = (await get(app, "/admin/ledger")).body.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["lost", "ok"]


async def test_sums_are_kept_as_long_as_the_rows_are() -> None:
    clock = LedgerClock()
    accounts = memory_ledger(clock)
    await append(accounts, [row("a"), row("b", t=DAY_1 + DAY_S)])
    app = api(accounts, clock)
    assert (await answer(app, "/admin/savings"))["requests"] == 2
    clock.passed_s = 91 * DAY_S
    assert (await answer(app, "/admin/savings"))["requests"] == 1
    clock.passed_s = 92 * DAY_S
    assert await answer(app, "/admin/savings") == {
        "since": None,
        "requests": 0,
        "prompt_tokens": 0,
        "saved_tokens": 0,
        "saved_nano_usd": 0,
        "saved_usd": 0.0,
        "stored_answers": 0,
        "stored_tokens": 0,
        "stored_saved_nano_usd": 0,
        "stored_saved_usd": 0.0,
        "models": [],
    }
