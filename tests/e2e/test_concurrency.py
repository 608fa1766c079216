"""Many requests at once, and many one after the other over the hop to the engine."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
from e2e.live_server import LiveServer

FRESH = {"genkan": {"cache": "no-cache"}}  # from the engine, and not what was stored
COUNTRIES = ("France", "Italy", "Spain", "Germany", "Japan", "Egypt", "Russia", "Greece")


def answer(sdk: openai.OpenAI, country: str, *, stream: bool) -> str:
    question = f"What is the capital of {country}?"
    if not stream:
        whole = sdk.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=12,
            extra_body=FRESH,
        )
        return whole.choices[0].message.content or ""
    chunks = sdk.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=12,
        stream=True,
        extra_body=FRESH,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_eight_streams_at_once_each_get_their_own_answer(sdk: openai.OpenAI) -> None:
    alone = [answer(sdk, country, stream=False) for country in COUNTRIES]
    assert "Paris" in alone[0]
    assert len(set(alone)) == len(COUNTRIES)
    with ThreadPoolExecutor(len(COUNTRIES)) as threads:
        together = list(threads.map(lambda country: answer(sdk, country, stream=True), COUNTRIES))
    assert together == alone


def test_hundreds_of_requests_pass_the_hop_to_the_engine(server: LiveServer, http: httpx.Client) -> None:
    def ask(number: int) -> tuple[int, str]:
        # Only the engine refuses this option, so the refusals have made the hop as well.
        refused = {"beam_width": 2} if number % 8 else {}
        body = {"model": "default", "prompt": [1000 + number], "max_tokens": 1, "stream": number % 3 == 0, **refused}
        reply = http.post("/v1/completions", json=body)
        return reply.status_code, reply.headers["x-request-id"]

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(ask, range(400)))
    assert Counter(status for status, _ in replies) == {200: 50, 400: 350}
    assert len({request_id for _, request_id in replies}) == 400
    server.assert_clean_log()
