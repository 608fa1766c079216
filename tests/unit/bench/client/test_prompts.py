"""What is asked is the same in every run, and shares what it is told to share."""

import json
from collections import Counter
from itertools import islice
from typing import Any

from genkan.bench.chat_traffic import asked
from genkan.bench.client.prompts import LANGUAGES, PREFIXES, STORED, Prompts
from genkan.bench.client.target import parse_target


def bodies(prompts: Prompts, number: int) -> list[dict[str, Any]]:
    return [body for _, body in islice(prompts.bodies(), number)]


def users(prompts: Prompts, number: int) -> list[str]:
    return [body["messages"][-1]["content"] for body in bodies(prompts, number)]


def test_one_seed_asks_the_same_and_another_nothing_of_it() -> None:
    assert users(Prompts(seed=1), 20) == users(Prompts(seed=1), 20)
    assert not set(users(Prompts(seed=1), 20)) & set(users(Prompts(seed=2), 20))


def test_by_default_no_two_questions_are_alike_nor_begin_alike() -> None:
    found = users(Prompts(), 100)
    assert len({text[:24] for text in found}) == 100


def test_so_many_questions_come_again_and_again() -> None:
    found = Counter(users(Prompts(questions=5), 100))
    assert len(found) == 5
    assert max(found.values()) < 50


def test_prefixes_come_in_turn_as_system_prompts() -> None:
    systems = Counter(body["messages"][0]["content"] for body in bodies(Prompts(prefixes=4, prefix_tokens=200), 40))
    assert set(systems.values()) == {10}
    assert all(len(text.split()) > 100 for text in systems)


def test_languages_come_in_turn() -> None:
    english, vietnamese, korean = users(Prompts(languages=LANGUAGES), 3)
    assert english.isascii()
    assert any(letter in vietnamese for letter in "ạảấầậắặẹẻếềệỉịọỏốồộớờợụủứừựỳỵỷỹđ")
    assert any("가" <= letter <= "힣" for letter in korean)


def test_arms_are_asked_the_same_one_after_the_other() -> None:
    for arms in (STORED, PREFIXES):
        pairs = list(islice(Prompts(arms=arms).bodies(), 20))
        assert [arm for arm, _ in pairs[:4]] == [*arms, *arms]
        for (arm, first), (other, second) in zip(pairs[::2], pairs[1::2], strict=True):
            assert (first.pop("genkan"), second.pop("genkan")) == (arms[arm], arms[other])
            assert first == second


def test_a_server_that_knows_no_extras_is_sent_none() -> None:
    (body,) = bodies(Prompts(model="m", max_tokens=7), 1)
    assert set(body) == {"model", "messages", "temperature", "max_tokens", "stream", "stream_options"}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0)
    (whole,) = bodies(Prompts(stream=False), 1)
    assert (whole["stream"], "stream_options" in whole) == (False, False)


def test_an_order_is_a_request_that_fake_upstreams_know_the_number_of() -> None:
    orders = list(islice(Prompts(languages=["ko"]).orders(parse_target("http://host")), 2))
    sent = [order.request.partition(b"\r\n\r\n")[2] for order in orders]
    assert [asked(body) for body in sent] == [(b"0000000000", True), (b"0000000001", True)]
    assert "한".encode() in sent[0]
    assert json.loads(sent[0])["stream"] is True
