"""Chat templates: what they are given, what they may say, and that none runs long or makes much.

That they write what transformers writes is in test_transformers_oracle.py.
"""

import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from genkan.errors import InvalidRequest, ModelFileError
from genkan.upstream.chat_template import ChatTemplate, local_time

BOMBS = Path(__file__).with_name("template_bombs.txt").read_text().splitlines()  # a template a line
HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Thêm <b> & 'c'", "parameters": {"a": [1, None]}},
}


def template_of(source: str, **named: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, named, lambda: datetime(2026, 3, 1, 9, 5, tzinfo=UTC))


def rendered(source: str, messages: list[dict[str, Any]] = HI, **given: Any) -> str:
    return template_of(source).render(messages, tools=given.get("tools"), documents=given.get("documents"))


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: ascii(bomb)[-60:])
def test_a_bomb_is_refused_in_bounded_time_and_memory(bomb: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    with pytest.raises((InvalidRequest, ModelFileError)):
        rendered(bomb)
    assert time.thread_time() - started < 3  # a busy machine's; under 1 on an idle one
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_a_template_works_again_after_a_bomb() -> None:
    template = template_of("{% if messages | length > 1 %}{{ 'a' * 10**9 }}{% endif %}ok")
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="too long a text"):
            template.render(HI * 2, tools=None, documents=None)
        assert template.render(HI, tools=None, documents=None) == "ok"


def test_a_long_chat_gets_a_budget_that_grows_with_it() -> None:
    source = (
        "{% for m in messages %}{% if m.content is string and '</think>' in m.content %}"
        "{% set text = m.content.split('</think>')[-1].lstrip('\\n') %}{% else %}{% set text = m.content | trim %}"
        "{% endif %}{{ '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}{% endfor %}"
    )
    assert len(rendered(source, HI * 20_000)) == 20_000 * len("<|im_start|>user\nhi<|im_end|>\n")
    assert len(rendered(source, [{"role": "user", "content": "x" * 4_000_000}])) > 4_000_000


def test_threads_may_render_at_once() -> None:
    template = template_of("{% for m in messages %}{{ m.content }}{% endfor %}")
    texts: list[str] = []

    def render(word: str) -> None:
        texts.extend(template.render([{"content": word}] * 50, tools=None, documents=None) for _ in range(20))

    threads = [Thread(target=render, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(texts)) == [word * 50 for word in "abcd"]


def test_a_message_is_data_and_never_runs() -> None:
    text = "{{ 1 + 1 }}{% for x in y %}{# not a comment #}"
    assert rendered("{{ messages[0].content }}", [{"role": "user", "content": text}]) == text
    assert rendered("{{ '%s' % messages[0].content | string }}", [{"role": "user", "content": text}]) == text


def test_tools_and_documents_reach_the_template() -> None:
    source = "{{ tools | tojson }}|{{ documents[0].text }}"
    assert rendered(source, tools=[TOOL], documents=[{"text": "d"}]) == (
        '[{"type": "function", "function": {"name": "add", "description": "Thêm <b> & \'c\'", '
        '"parameters": {"a": [1, null]}}}]|d'
    )
    assert rendered("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}") == "TrueTrueTrue"


@pytest.mark.parametrize(
    ("sources", "takes"),
    [
        ({"default": "{% if tools %}{{ tools }}{% endif %}"}, True),
        ({"default": "{{ messages }} tools"}, False),
        ({"default": "{% set tools = 1 %}{{ tools }}"}, False),
        ({"default": "a", "tool_use": "b"}, True),
        ({}, False),
    ],
)
def test_whether_a_template_takes_tools(sources: dict[str, str], takes: bool) -> None:
    assert ChatTemplate(sources, {}, local_time).takes_tools is takes


def test_the_template_for_tools_is_used_when_there_are_some() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "tools", "rag": "rag"}, {}, local_time)
    assert template.source == "plain"
    assert template.render(HI, tools=None, documents=None) == "plain"
    assert template.render(HI, tools=[], documents=None) == "plain"
    assert template.render(HI, tools=[TOOL], documents=None) == "tools"


def test_the_time_is_the_one_that_was_given() -> None:
    assert rendered("{{ strftime_now('%d %b %Y %H:%M') }}") == "01 Mar 2026 09:05"
    assert local_time().tzinfo is not None


def test_what_an_assistant_said_may_be_marked() -> None:
    assert rendered("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}!{% endfor %}") == "hi!"


def test_a_template_says_why_it_refuses_and_not_at_length() -> None:
    with pytest.raises(InvalidRequest, match="refuses these messages: only one system message") as caught:
        rendered("{{ raise_exception('only one system message') }}")
    assert (caught.value.param, caught.value.status) == ("messages", 400)
    with pytest.raises(InvalidRequest) as long:
        rendered("{{ raise_exception('x' * 100000) }}")
    assert len(long.value.message) < 1200


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{", "{{ a | nosuch }}", "{% nosuch %}", "{{ " + "(" * 5000 + " }}", "x" * 300_000],
)
def test_what_is_no_template_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(ModelFileError, match="chat template"):
        template_of(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ messages[0].clear() }}",
        "{{ messages[0].role.encode() }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__name__ }}",
        "{{ strftime_now.__globals__ }}{{ joiner.mro() }}",
        "{% include 'a' %}",
        "{% import 'a' as b %}",
    ],
)
def test_a_template_reaches_nothing_of_ours(source: str) -> None:
    with pytest.raises(InvalidRequest):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    ["{{ messages[0].role.__class__ }}", "{{ raise_exception.__self__ }}", "{{ self.__class__ }}{{ range.start }}"],
)
def test_what_a_template_may_not_read_is_nothing_to_it(source: str) -> None:
    assert rendered(source) == ""


def test_written_out_a_namespace_shows_nothing() -> None:
    assert rendered("{% set ns = namespace(a=1, self=2) %}{{ ns }}{{ ns.a }}{{ ns.self }}") == "<Namespace>12"
