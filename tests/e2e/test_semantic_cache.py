"""Like questions over two workers of a real server, its Redis, its embedder, and an upstream that counts."""

import itertools
import os
import signal
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from e2e.counting_gateway import WORKERS, CountingGateway, model, running_counting_gateway, there
from e2e.crowd import Reply, chat
from e2e.live_server import wait_until
from e2e.scripted_judge import VERDICT_USAGE, ScriptedJudge, running_judge
from faults.canonical import TEXT
from faults.process import running_upstream

SOON_S: Final = 30.0
#: A question, the same in other words, and others that are near to it and ask for something else.
LIKE: Final = {
    "en": (
        "How do I get a refund for a cancelled flight?",
        "How can I get my money back for a cancelled flight?",
        "How do I get a refund for a delayed flight?",
        "How do I get no refund for a cancelled flight?",
        "How do I get a refund for 2 cancelled flights?",
    ),
    "vi": (
        "Làm thế nào để bật xác thực hai lớp?",
        "Cách bật xác thực hai lớp như thế nào?",
        "Làm thế nào để tắt xác thực hai lớp?",
        "Làm thế nào để bật xác thực ba lớp?",
        "Làm thế nào để không bật xác thực hai lớp?",
    ),
    "ko": (
        "헬스장 회원권을 어떻게 해지하나요?",
        "헬스장 회원권 해지는 어떻게 해요?",
        "헬스장 회원권을 어떻게 구매하나요?",
        "헬스장 회원권을 왜 해지 안 하나요?",
        "헬스장 회원권 2장을 어떻게 해지하나요?",
    ),
    "names": (
        "What is the price for shipping a parcel from Seoul to Hanoi?",
        "How much does it cost to ship a parcel from Seoul to Hanoi?",
        "How much does it cost to ship a parcel from Hanoi to Seoul?",
        "How much does it cost to ship a parcel from Seoul to Busan?",
    ),
}


@pytest.fixture(scope="module")
def judge() -> Generator[ScriptedJudge, None, None]:
    """It agrees that the questions of ``LIKE`` are alike that are."""
    with running_judge() as judge:
        for stored, same, *_ in LIKE.values():
            judge.agrees(stored, same)
        yield judge


@pytest.fixture(scope="module")
def gateway(judge: ScriptedJudge, tmp_path_factory: pytest.TempPathFactory) -> Generator[CountingGateway, None, None]:
    def route(alias: str, **cache: Any) -> dict[str, Any]:
        return {"alias": alias, "chain": ["ok"], "cache": cache}

    verdicts = {"name": "verdict", "deployments": [{"upstream": "judge", "model": "verdict"}]}
    with (
        running_upstream() as answers,
        running_counting_gateway(
            tmp_path_factory.mktemp("semantic"),
            embedder={"question_s": 1.0},  # a busy machine must not make misses
            upstreams=[there(answers), judge.upstream],
            models=[model("ok"), verdicts],
            routes=[
                route("likes", semantic="on"),
                route("tries", semantic="shadow"),
                route("short", semantic="on", ttl_s=2),
                route("sure", semantic="on", verified=True),
            ],
            cache={"judge": {"model": "verdict", "per_minute": 1000}},
            prices={"models": [{"model": name, "input": 2, "output": 8} for name in ("ok", "verdict")]},
        ) as gateway,
    ):
        gateway.upstream = answers
        yield gateway


@pytest.fixture
def key(gateway: CountingGateway) -> str:
    """A tenant of the test's own: what others stored is not found."""
    gateway.upstream.reset()
    return new_tenant(gateway)


def new_tenant(gateway: CountingGateway) -> str:
    return gateway.key(tenant=f"t{os.urandom(4).hex()}").secret


def saying(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def request(key: str, text: str, route: str = "likes", *, store: bool = True, **more: Any) -> bytes:
    """``store``: whether the answer is kept; looking must not change what the next one finds."""
    control = {} if store else {"genkan": {"cache": "no-store"}}
    return chat(key, route, **{"messages": saying(text), **control, **more})


def cache_of(reply: Reply) -> tuple[str, str | None]:
    return reply.headers["x-genkan-cache"], reply.headers.get("x-genkan-cache-tier")


LIKENESS: Final = ("hit-semantic", "semantic")
MISS: Final = ("miss", None)


def over_both(gateway: CountingGateway, one: bytes, many: int = 16) -> set[tuple[str, str | None]]:
    """What both workers say of a request, which is not stored."""
    replies = gateway.race_at_both([one] * many)
    assert {reply.status for reply in replies} == {200}
    return {cache_of(reply) for reply in replies}


def until_found(gateway: CountingGateway, one: bytes) -> None:
    """Both workers know a like question."""
    wait_until(lambda: over_both(gateway, one, 8) == {LIKENESS}, SOON_S, "both workers find the like question")


@pytest.mark.parametrize("language", LIKE)
def test_a_question_in_other_words_gets_the_stored_answer_and_a_trap_does_not(
    gateway: CountingGateway, key: str, language: str
) -> None:
    stored, same, *traps = LIKE[language]
    assert cache_of(gateway.ask(request(key, stored))) == MISS
    until_found(gateway, request(key, same, store=False))
    asked = len(gateway.upstream.attempts("ok"))
    reply = gateway.ask(request(key, same, stream=True, store=False))
    assert cache_of(reply) == LIKENESS
    assert reply.body.count(b'"delta"') > 10
    whole = gateway.ask(request(key, same, store=False))
    assert whole.json["choices"][0]["message"]["content"] == TEXT
    assert whole.json["usage"]["cached"] is True
    assert len(gateway.upstream.attempts("ok")) == asked
    for trap in traps:
        assert (trap, over_both(gateway, request(key, trap, store=False), 4)) == (trap, {MISS})
    # What is no plain question is not even sought for.
    assert cache_of(gateway.ask(request(key, f"{same} Answer as JSON: {{}}", store=False))) == MISS


def test_all_but_the_last_text_is_the_same_or_it_is_a_miss(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    gateway.ask(request(key, stored, temperature=0))
    until_found(gateway, request(key, same, store=False, temperature=0))
    system = [{"role": "system", "content": "Be brief."}, *saying(same)]
    history = [*saying("Hi"), {"role": "assistant", "content": "Hello."}, *saying(same)]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    others: list[dict[str, Any]] = [
        {"messages": system},
        {"messages": history},
        {"temperature": 0.5},
        {"seed": 1},
        {"max_tokens": 70},
        {"tools": [tool]},
        {"route": "short"},
        {"response_format": {"type": "json_object"}},
    ]
    for other in others:
        reply = gateway.ask(request(key, same, **{"store": False, "temperature": 0, **other}))
        assert (other, cache_of(reply)) == (other, MISS)
    stranger = new_tenant(gateway)
    assert over_both(gateway, request(stranger, same, store=False, temperature=0)) == {MISS}
    assert over_both(gateway, request(key, same, store=False, temperature=0)) == {LIKENESS}


def test_a_client_may_want_it_new_or_not_at_all(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    only = request(key, same, genkan={"cache": "only"})
    assert (gateway.ask(only).status, gateway.ask(only).code) == (404, "cache_miss")
    gateway.ask(request(key, stored))
    until_found(gateway, request(key, same, store=False))
    assert cache_of(gateway.ask(only)) == LIKENESS
    assert cache_of(gateway.ask(request(key, same, genkan={"cache": "no-cache"})))[0] == "bypass"
    assert cache_of(gateway.ask(request(key, same))) == ("hit-exact", "exact")  # it has its own answer now


def shadows(gateway: CountingGateway) -> float:
    return gateway.metrics().value("cache_lookups_total", route="tries", result="shadow")


def until_shadowed(gateway: CountingGateway, one: bytes) -> None:
    """Both workers would find a like question, and do not give its answer."""

    def counted() -> bool:
        before, seen = shadows(gateway), Counter[int]()
        replies = gateway.race([one] * 8, seen)
        assert {cache_of(reply)[0] for reply in replies} <= {"miss", "bypass"}
        return shadows(gateway) == before + len(replies) and len(seen) == WORKERS

    wait_until(counted, SOON_S, "both workers count a shadow")


@pytest.mark.parametrize("options", [{}, {"temperature": 0}])
def test_a_route_that_tries_it_out_counts_and_gives_nothing(
    gateway: CountingGateway, key: str, options: dict[str, Any]
) -> None:
    stored, same, *_ = LIKE["ko"]
    gateway.ask(request(key, stored, "tries", **options))
    until_shadowed(gateway, request(key, same, "tries", store=False, **options))
    assert gateway.metrics().value("cache_lookups_total", route="tries", result="semantic") == 0


def test_the_judge_is_asked_behind_and_is_billed_by_its_own_name(
    gateway: CountingGateway, judge: ScriptedJudge, key: str
) -> None:
    """In shadow mode all that would have been given is judged; it does not know this pair."""
    stored, same = "Where can I find my order number?", "Where do I find the number of my order?"
    look = request(key, same, "tries", store=False)
    gateway.ask(request(key, stored, "tries"))
    until_shadowed(gateway, look)
    assert not judge.was_shown(stored, same)
    gateway.ask(request(key, same, "tries"))
    wait_until(lambda: judge.was_shown(stored, same), SOON_S, "it is asked")
    (pair,) = (pair for pair in judge.asked if pair["new_question"] == same)
    assert pair == {"stored_question": stored, "new_question": same, "stored_answer": TEXT, "new_answer": TEXT}
    wait_until(
        lambda: gateway.metrics().value("cache_judged_total", verdict="different") > 0, SOON_S, "its no is counted"
    )
    gateway.wait_settled()

    def rows() -> list[dict[str, Any]]:
        return [row for row in gateway.ledger() if row["tenant"] == "genkan-judge"]

    wait_until(lambda: len(rows()) == len(judge.asked), SOON_S, "all verdicts are in the ledger")
    for row in rows():
        assert row["usage"]["prompt"] == VERDICT_USAGE["prompt_tokens"]
        assert row["cost_nano_usd"] > 0


def test_a_route_that_wants_to_be_sure_has_it_judged_first(
    gateway: CountingGateway, judge: ScriptedJudge, key: str
) -> None:
    """A question like others that were judged right gets their answer; a trap never does, whoever is asked."""
    stored, *others = (
        "How do I get a refund for a cancelled flight?",
        "How can I get a refund for a cancelled flight?",
        "How can I get my money back for a cancelled flight?",
        "What is the way to get a refund for a cancelled flight?",
    )
    for one in others:
        judge.agrees(stored, one)
    for one, other in itertools.combinations(others, 2):
        judge.agrees(one, other)
    gateway.ask(request(key, stored, "sure"))
    given = 0

    def is_given() -> bool:
        nonlocal given
        replies = [gateway.ask(request(key, one, "sure")) for one in others]
        given += sum(cache_of(reply) == LIKENESS for reply in replies)
        assert {cache_of(reply)[0] for reply in replies} <= {"miss", "hit-exact", "hit-semantic"}
        if not given:
            gateway.admin("DELETE", "/admin/cache?route=sure")
        return given > 0

    wait_until(is_given, SOON_S, "an answer is given to a like question")
    for trap in LIKE["en"][2:]:
        assert cache_of(gateway.ask(request(key, trap, "sure"))) == MISS


def test_a_purge_takes_the_like_questions_along(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    look = request(key, same, store=False)
    for query in ("all=true", "route=likes"):
        gateway.ask(request(key, stored))
        until_found(gateway, look)
        gateway.admin("DELETE", f"/admin/cache?{query}")
        assert over_both(gateway, look) == {MISS}


def test_an_answer_that_expired_is_not_given(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    look = request(key, same, "short", store=False)
    gateway.ask(request(key, stored, "short"))
    wait_until(lambda: cache_of(gateway.ask(look)) == LIKENESS, SOON_S, "it is found")
    wait_until(lambda: cache_of(gateway.ask(look)) == MISS, SOON_S, "it has expired")
    assert over_both(gateway, look) == {MISS}


def test_a_redis_that_was_killed_makes_misses_until_it_is_back(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    look = request(key, same, store=False)
    gateway.ask(request(key, stored))
    until_found(gateway, look)
    old = gateway.redis_pid
    os.kill(old, signal.SIGKILL)
    replies = gateway.race([look] * 16)
    assert {reply.status for reply in replies} == {200}

    def is_learnt_again() -> bool:
        reply = gateway.ask(request(key, stored))
        return reply.status == 200 and over_both(gateway, look, 4) == {LIKENESS}

    def takes_keys() -> bool:
        with suppress(httpx.HTTPStatusError):
            return bool(gateway.key())
        return False

    wait_until(is_learnt_again, SOON_S, "it is stored and found again")
    wait_until(takes_keys, SOON_S, "administrators are heard again")  # on another connection, for the next test
    assert gateway.redis_pid != old


def test_an_embedder_that_was_killed_makes_misses_until_it_is_back(gateway: CountingGateway, key: str) -> None:
    stored, same, *_ = LIKE["en"]
    look = request(key, same, store=False)
    gateway.ask(request(key, stored))
    until_found(gateway, look)
    (old,) = embedders(gateway)
    os.kill(old, signal.SIGKILL)
    assert {cache_of(reply) for reply in gateway.race([look] * 16)} == {MISS}
    refused = gateway.ask(embedding(key))
    assert refused.status in (502, 503)
    assert refused.code in ("upstream_invalid_response", "upstream_unreachable", "engine_unavailable")
    until_found(gateway, look)
    assert embedders(gateway) != [old]
    answer = gateway.ask(embedding(key))
    assert (answer.status, len(answer.json["data"][0]["embedding"])) == (200, 384)


def embedding(key: str) -> bytes:
    """A request for the vector of a text."""
    data = b'{"model":"multilingual-e5-small","input":"hi"}'
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return b"%bauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (head, key.encode(), len(data), data)


def embedders(gateway: CountingGateway) -> list[int]:
    """The processes that embed; there is no engine, so BentoML starts none for any other service."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in gateway.server.processes()}
    return [pid for pid, line in lines.items() if b"genkan_embedder" in line]
