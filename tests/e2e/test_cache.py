"""Stored answers over two workers of a real server, its Redis, and an upstream that counts what it is asked."""

import json
import os
import signal
import unicodedata
from collections import Counter
from collections.abc import Generator
from typing import Any

import openai
import pytest
from e2e.counting_gateway import PROMPT, TOKENS, WORKERS, CountingGateway, model, running_counting_gateway
from e2e.crowd import Reply, chat
from e2e.live_server import wait_until
from faults.canonical import TEXT
from faults.canonical import TOKENS as PIECES

SAME: dict[str, Any] = {"temperature": 0}
CROWD = 100
SOON_S = 20.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[CountingGateway, None, None]:
    models = [
        model("ok"),
        model("other", "ok"),
        model("slow", "slow-ok"),
        model("tools", "tool-calls"),
        model("broken", "500-for-ever"),
        model("cut", "cut-after-40"),
    ]
    with running_counting_gateway(
        tmp_path_factory.mktemp("cache"),
        models=models,
        routes=[
            {"alias": "always", "chain": ["ok"], "cache": {"exact": "on"}},
            {"alias": "never", "chain": ["ok"], "cache": {"exact": "off"}},
            {"alias": "falls", "chain": ["broken", "ok"], "retry": {"max_retries": 0}},
        ],
        prices={"models": [{"model": "ok", "input": 2, "output": 8}]},
    ) as gateway:
        yield gateway


@pytest.fixture
def key(gateway: CountingGateway) -> str:
    gateway.upstream.reset()
    return gateway.key().secret


def question(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def asked(gateway: CountingGateway, name_there: str = "ok") -> int:
    return len(gateway.upstream.attempts(name_there))


def cache_of(reply: Reply) -> tuple[str, str | None]:
    return reply.headers["x-genkan-cache"], reply.headers.get("x-genkan-cache-tier")


def text_of(reply: Reply) -> str:
    """Of a stream or of a whole answer."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return str(reply.json["choices"][0]["message"]["content"])
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(reply) if chunk["choices"])


def chunks(reply: Reply) -> list[dict[str, Any]]:
    *events, done = reply.body.removesuffix(b"\n\n").split(b"\n\n")
    assert done == b"data: [DONE]"
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def test_the_same_request_gets_the_stored_answer_on_every_worker(gateway: CountingGateway, key: str) -> None:
    request = chat(key, messages=question("The same?"), **SAME)
    first = gateway.ask(request)
    assert cache_of(first) == ("miss", None)
    replies = gateway.race_at_both([request] * 16)
    assert {cache_of(reply) for reply in replies} == {("hit-exact", "exact")}
    assert {text_of(reply) for reply in replies} == {TEXT}
    assert asked(gateway) == 1
    ids = {reply.json["id"] for reply in [first, *replies]}
    assert len(ids) == 1 + len(replies)
    one = replies[0]
    assert one.headers["x-genkan-model"] == "ok"
    assert one.headers["x-genkan-upstream"] == "there"
    assert one.headers["x-genkan-cost-usd"] == "0.000000000"
    assert int(one.headers["age"]) >= 0
    usage = one.json["usage"]
    assert usage["cached"] is True
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["cached_tokens"] == PROMPT
    assert usage["total_tokens"] == TOKENS


@pytest.mark.parametrize("stored_as_stream", [False, True])
def test_a_hit_streams_or_not_as_it_is_asked_for(gateway: CountingGateway, key: str, stored_as_stream: bool) -> None:
    def ask(*, stream: bool) -> Reply:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        text = question(f"Streamed first: {stored_as_stream}?")
        return gateway.ask(chat(key, messages=text, stream=stream, **options, **SAME))

    assert cache_of(ask(stream=stored_as_stream))[0] == "miss"
    whole, stream = ask(stream=False), ask(stream=True)
    assert cache_of(whole) == cache_of(stream) == ("hit-exact", "exact")
    assert text_of(whole) == text_of(stream) == TEXT
    events = chunks(stream)
    assert len(events) > 10
    assert events[-1]["usage"]["total_tokens"] == TOKENS
    assert events[-1]["usage"]["cost_usd"] == 0
    assert asked(gateway) == 1


def test_how_the_text_is_typed_does_not_matter(gateway: CountingGateway, key: str) -> None:
    text = "Hoá đơn của tôi gửi về địa chỉ nào?"
    typed = "  " + unicodedata.normalize("NFD", text.replace("Hoá", "Hóa")).replace(" ", "  ") + "\n"
    first = gateway.ask(chat(key, messages=question(text), **SAME))
    again = gateway.ask(chat(key, messages=question(typed), **SAME))
    assert (cache_of(first)[0], cache_of(again)) == ("miss", ("hit-exact", "normalised"))
    assert asked(gateway) == 1


def test_nothing_else_may_differ(gateway: CountingGateway, key: str) -> None:
    """The isolation matrix: never a hit."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    base: dict[str, Any] = {"messages": question("Who may see this?"), **SAME}
    assert cache_of(gateway.ask(chat(key, **base)))[0] == "miss"
    assert cache_of(gateway.ask(chat(key, **base)))[0] == "hit-exact"
    system = [{"role": "system", "content": "Be brief."}, *base["messages"]]
    history = [*question("Hi"), {"role": "assistant", "content": "Hello."}, *base["messages"]]
    others: list[dict[str, Any]] = [
        {"model": "other"},
        {"model": "always"},
        {"messages": system},
        {"messages": history},
        {"messages": [{**base["messages"][0], "name": "bob"}]},
        {"tools": [tool]},
        {"temperature": 0.7, "seed": 1},
        {"seed": 7},
        {"max_tokens": 70},
        {"top_p": 0.5},
        {"stop": ["x"]},
        {"response_format": {"type": "json_object"}},
        {"cache_salt": "mine"},
        {"nobody_knows_this": 1},
    ]
    for other in others:
        reply = gateway.ask(chat(key, **(base | other)))
        assert (other, cache_of(reply)[0]) == (other, "miss")
    stranger = gateway.key(tenant="globex").secret
    assert cache_of(gateway.ask(chat(stranger, **base)))[0] == "miss"
    colleague = gateway.key().secret  # of the same tenant
    assert cache_of(gateway.ask(chat(colleague, **base)))[0] == "hit-exact"


def test_what_one_tenant_stored_is_never_given_to_another(gateway: CountingGateway, key: str) -> None:
    """Poisoning: the same text, however it was typed, and a key of another tenant's."""
    stranger = gateway.key(tenant="globex").secret
    for text in ("What is our refund policy?", "what is our refund policy"):
        gateway.ask(chat(key, messages=question(text), **SAME))
        theirs = gateway.ask(chat(stranger, messages=question(text), genkan={"cache": "no-store"}, **SAME))
        assert cache_of(theirs)[0] == "miss"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 0.5}, "bypass"),
        ({}, "bypass"),
        ({"model": "never", "temperature": 0}, "bypass"),
        ({"temperature": 0, "n": 2}, "bypass"),
        ({"temperature": 0, "logprobs": True}, "bypass"),
        ({"seed": 3}, "miss"),
        ({"model": "always", "temperature": 0.5}, "miss"),
    ],
)
def test_which_requests_take_part(gateway: CountingGateway, key: str, options: dict[str, Any], expected: str) -> None:
    text = question(f"Taking part: {options}?")
    assert cache_of(gateway.ask(chat(key, messages=text, **options)))[0] == expected


def test_what_a_client_may_say(gateway: CountingGateway, key: str) -> None:
    def ask(mode: str | None, **genkan: Any) -> Reply:
        said = {"cache": mode, **genkan} if mode else genkan
        return gateway.ask(chat(key, messages=question("As I say?"), genkan=said or None, **SAME))

    missed = ask("only")
    assert (missed.status, missed.code, missed.headers["x-should-retry"]) == (404, "cache_miss", "false")
    assert cache_of(ask("no-store"))[0] == "miss"
    assert ask("only").status == 404
    assert cache_of(ask("no-cache"))[0] == "bypass"  # stored all the same
    assert cache_of(ask("only")) == ("hit-exact", "exact")
    assert cache_of(ask("no-store"))[0] == "hit-exact"
    assert cache_of(ask("no-cache"))[0] == "bypass"
    assert asked(gateway) == 3


def test_an_answer_lives_as_long_as_its_request_says(gateway: CountingGateway, key: str) -> None:
    request = chat(key, messages=question("How long?"), genkan={"cache_ttl_s": 1}, **SAME)
    assert cache_of(gateway.ask(request))[0] == "miss"
    asked_before = asked(gateway)
    wait_until(lambda: cache_of(gateway.ask(request))[0] == "miss", SOON_S, "it has expired")
    assert asked(gateway) == asked_before + 1


def test_what_is_not_whole_or_not_plain_is_not_stored(gateway: CountingGateway, key: str) -> None:
    for name in ("tools", "cut", "broken"):
        request = chat(key, name, messages=question("Stored?"), stream=name == "cut", **SAME)
        before = gateway.ask(request)
        after = gateway.ask(request)
        for reply in (before, after):
            assert reply.headers.get("x-genkan-cache", "miss") == "miss", name
    assert asked(gateway, "tool-calls") == 2
    short = chat(key, messages=question("Whose?"), model="falls", **SAME)
    assert [cache_of(gateway.ask(short))[0] for _ in range(2)] == ["miss", "miss"]  # the second in the chain answered


@pytest.mark.parametrize("stream", [False, True])
def test_a_hundred_at_once_are_asked_for_once(gateway: CountingGateway, key: str, stream: bool) -> None:
    seen = Counter[int]()
    for n in range(1, 20):
        body = {"messages": question(f"All at once, {stream}, {n}?"), "x_delay_ms": 5, **SAME}
        requests = [chat(key, "slow", stream=stream if m % 2 else not stream, **body) for m in range(CROWD)]
        seen.clear()
        replies = gateway.race(requests, seen)
        assert asked(gateway, "slow-ok") == n
        if len(seen) == WORKERS:  # now and then one worker gets them all
            break
    assert len(seen) == WORKERS
    assert {reply.status for reply in replies} == {200}
    assert {text_of(reply) for reply in replies} == {TEXT}
    told = Counter(cache_of(reply) for reply in replies)
    assert told["miss", None] == 1
    assert set(told) <= {("miss", None), ("hit-exact", "shared"), ("hit-exact", "exact")}
    ids = {chunks(reply)[0]["id"] if b"data: " in reply.body[:6] else reply.json["id"] for reply in replies}
    assert len(ids) == CROWD
    gateway.wait_settled()


def test_a_hundred_at_once_are_asked_for_once_however_soon_it_is_answered(gateway: CountingGateway, key: str) -> None:
    """Those that looked for a stored answer just before there was one come to the flight just after it has landed."""
    for n in range(10):
        body = {"messages": question(f"At once, and answered at once, {n}?"), **SAME}
        replies = gateway.race([chat(key, stream=bool(m % 2), **body) for m in range(CROWD)])
        assert {(reply.status, text_of(reply)) for reply in replies} == {(200, TEXT)}
        assert asked(gateway) == n + 1
        assert Counter(cache_of(reply) for reply in replies)["miss", None] == 1


def test_who_leaves_does_not_take_the_answer_along(gateway: CountingGateway, key: str) -> None:
    """The client that asked first goes; who waits with it gets the whole stream, and the upstream is asked once."""
    body = {"messages": question("Who leaves?"), "x_delay_ms": 20, "stream": True, **SAME}
    with openai.OpenAI(base_url=f"{gateway.server.base_url}/v1", api_key=key, max_retries=0) as sdk:
        extra = {"x_delay_ms": 20}
        first = sdk.chat.completions.create(
            model="slow", messages=body["messages"], max_tokens=len(PIECES), temperature=0, stream=True,
            extra_body=extra,
        )  # fmt: skip
        next(iter(first))
        second = sdk.chat.completions.create(
            model="slow", messages=body["messages"], max_tokens=len(PIECES), temperature=0, stream=True,
            extra_body=extra,
        )  # fmt: skip
        events = iter(second)
        begun = next(events).choices[0].delta.content or ""
        first.close()
        rest = [chunk.choices[0].delta.content or "" for chunk in events if chunk.choices]
    assert begun + "".join(rest) == TEXT
    assert asked(gateway, "slow-ok") == 1


def test_a_purge_holds_at_once(gateway: CountingGateway, key: str) -> None:
    request = chat(key, messages=question("Purged?"), **SAME)

    def hits() -> str:
        gateway.ask(request)
        return cache_of(gateway.ask(request))[0]

    assert hits() == "hit-exact"
    for query in ("tenant=acme", "route=ok", "all=true"):
        gateway.admin("DELETE", f"/admin/cache?{query}")
        assert cache_of(gateway.ask(request))[0] == "miss"
        assert cache_of(gateway.ask(request))[0] == "hit-exact"
    for query in ("tenant=globex", "route=other"):
        gateway.admin("DELETE", f"/admin/cache?{query}")
        assert cache_of(gateway.ask(request))[0] == "hit-exact"


def test_a_hit_costs_a_request_and_nothing_else(gateway: CountingGateway) -> None:
    key = gateway.key(limits={"requests": {"limit": 10}, "tokens": {"limit": 1000}})
    request = chat(key.secret, messages=question("What does it cost?"), **SAME)
    gateway.ask(request)
    gateway.wait_settled()
    used = gateway.limit(f"key {key.id}", "tokens")["used"]
    assert [cache_of(gateway.ask(request))[0] for _ in range(3)] == ["hit-exact"] * 3
    gateway.wait_settled()
    assert gateway.limit(f"key {key.id}", "tokens")["used"] <= used
    rows = [row for row in gateway.ledger() if row["key"] == key.id]
    assert [row["cost_nano_usd"] > 0 for row in rows] == [True, False, False, False]
    for row in rows[1:]:
        assert row["stored"] == {"tier": "exact", "deployment": "ok@there"}
        assert (row["saved_nano_usd"], row["attempts"]) == (rows[0]["cost_nano_usd"], [])
    savings = gateway.admin("GET", "/admin/savings")
    assert savings["stored_answers"] >= 3


def test_a_frozen_redis_makes_misses_within_the_budget(gateway: CountingGateway, key: str) -> None:
    request = chat(key, messages=question("Frozen?"), **SAME)
    assert [cache_of(gateway.ask(request))[0] for _ in range(2)] == ["miss", "hit-exact"]
    pid = gateway.redis_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        reply = gateway.ask(request)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (reply.status, text_of(reply), cache_of(reply)[0]) == (200, TEXT, "miss")
    wait_until(lambda: cache_of(gateway.ask(request))[0] == "hit-exact", SOON_S, "Redis is used again")
