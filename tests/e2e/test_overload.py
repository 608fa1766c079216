"""A worker with more to do than it can: it refuses at once what it cannot take, counts it, and gets over it."""

import urllib.request
from collections import Counter
from collections.abc import Generator
from itertools import count, islice

import httpx
import pytest
import uvloop
from e2e.live_server import wait_until
from prometheus_client.parser import text_string_to_metric_families

from genkan.bench.chat_traffic import PATH, Requests, check_whole
from genkan.bench.cores import Cores
from genkan.bench.http_answer import Answer
from genkan.bench.http_load import Call, connected
from genkan.bench.server_process import ServerProcess
from genkan.bench.soaked_gateway import Upstream, serving_behind

REQUESTS = 3_000
CLIENTS = 200
CROWDS = 20  # at the most: where others have the cores, clients may be too slow to be a crowd


@pytest.fixture(scope="module")
def gateway() -> Generator[ServerProcess, None, None]:
    """One for which a lag of a millisecond is too much: with 200 clients each turn of its loop takes longer."""
    everywhere = frozenset(range(1024))
    with serving_behind(Upstream(), Cores(everywhere, everywhere), {"server": {"max_lag_s": 0.001}}) as server:
        yield server


def samples(gateway: ServerProcess, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by their labels' values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        tuple(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def crowd(gateway: ServerProcess) -> Counter[int]:
    """Have many clients ask at once; how many got which status."""
    statuses: Counter[int] = Counter()

    def check(answer: Answer, number: int) -> None:
        statuses[answer.status] += 1
        if answer.status == 503:
            assert b'"server_is_overloaded"' in answer.body
        else:
            check_whole(answer, number)

    async def ask() -> None:
        request = Requests(gateway.port, stream=False)
        calls = (Call(request(number), number, check) for number in count(1))
        async with connected(gateway.port, CLIENTS) as load:
            await load.run(islice(calls, REQUESTS))

    uvloop.run(ask())
    return statuses


def test_what_is_refused_is_well_formed_counted_and_over_soon(gateway: ServerProcess) -> None:
    before = samples(gateway, "genkan_requests_total")
    statuses = Counter[int]()
    for crowds in range(1, CROWDS + 1):
        statuses += crowd(gateway)
        assert statuses.total() == crowds * REQUESTS
        if statuses[503]:
            break
    assert set(statuses) == {200, 503}

    after = samples(gateway, "genkan_requests_total")
    for status in (200, 503):
        labels = (PATH, str(status))
        assert after[labels] - before.get(labels, 0) == statuses[status]
    assert samples(gateway, "genkan_shed_total")[PATH,] == statuses[503]

    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        question = {"model": "default", "messages": [{"role": "user", "content": "request 0000000001"}]}
        wait_until(lambda: client.post(PATH, json=question).status_code == 200, 10, "requests are let in again")
        assert client.get("/health").json()["status"] == "ok"
    log = gateway.folder / "log"
    wait_until(lambda: "refused requests" in log.read_text(encoding="utf-8"), 10, "the log says that it is over")


def test_the_loops_lag_is_measured(gateway: ServerProcess) -> None:
    counted = samples(gateway, "genkan_loop_lag_seconds_count")
    assert sum(counted.values()) > 20  # a second of it, and the server has lived longer
