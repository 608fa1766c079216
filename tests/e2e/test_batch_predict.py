"""`POST /batch_predict` with the engine behind it."""

from typing import Any

import httpx
import pytest
from e2e.live_server import LiveServer, wait_until

CAPITAL = "What is the capital of France?"


def asking(content: str, **options: Any) -> dict[str, Any]:
    message = {"role": "user", "content": content}
    return {"messages": [message], "temperature": 0, "genkan": {"cache": "no-cache"}, **options}


def test_answers_come_in_order_and_errors_in_their_places(http: httpx.Client) -> None:
    requests = [asking("Count to ten.", max_tokens=9), asking("x", stream=True), asking(CAPITAL), 5, asking("x", n=9)]
    answer = http.post("/batch_predict", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [200, 400, 200, 400, 400]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert [result["id"] for result in results] == [f"{answer.headers['x-request-id']}.{index}" for index in range(5)]
    assert results[0]["body"]["usage"]["completion_tokens"] == 9
    assert "Paris" in results[2]["body"]["choices"][0]["message"]["content"]
    assert [results[place]["body"]["error"]["param"] for place in (1, 3, 4)] == ["stream", "requests", "n"]


def test_who_leaves_stops_all_of_it(http: httpx.Client, server: LiveServer) -> None:
    requests = [asking(f"Count to {number}.", max_tokens=400, ignore_eos=True) for number in range(24)]
    with pytest.raises(httpx.ReadTimeout):
        http.post("/batch_predict", json=requests, timeout=1)
    wait_until(lambda: server.running_sequences() == server.waiting_sequences() == 0, 5, "nothing runs")
