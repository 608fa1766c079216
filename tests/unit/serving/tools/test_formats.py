"""Which templates write calls in which way."""

import pytest
from tool_rigs import LLAMA_TEMPLATE, MISTRAL_TEMPLATE, PLAIN_TEMPLATE, QWEN_TEMPLATE, Template

from genkan.serving.tools.formats import HERMES, LLAMA, MISTRAL, Dialect, ToolFormat, dialect_of
from genkan.upstream.tokenizer import TextTokenizer


@pytest.mark.parametrize(
    ("template", "known"), [(QWEN_TEMPLATE, HERMES), (LLAMA_TEMPLATE, LLAMA), (MISTRAL_TEMPLATE, MISTRAL)]
)
def test_a_template_that_writes_calls_is_recognised(template: str, known: ToolFormat) -> None:
    assert dialect_of(Template(template)) == Dialect(known, native=True, opening_id=None, closing_id=None)


@pytest.mark.parametrize(
    "template",
    [
        "",
        PLAIN_TEMPLATE,
        "{{ tools }} <tool_call><function=name><parameter=x> arguments",
        "{{ tools }} <tool_call>name<arg_key>key</arg_key> arguments",
        "{{ tools }} [TOOL_CALLS]name[ARGS]{}",
        "{{ tools }} <|channel|>commentary to=functions.name",
    ],
)
def test_any_other_is_told_in_words_and_answers_in_the_hermes_form(template: str) -> None:
    assert dialect_of(Template(template)) == Dialect(HERMES, native=False, opening_id=None, closing_id=None)


def test_markers_that_are_special_tokens_are_shown_in_the_text() -> None:
    dialect = dialect_of(Template(QWEN_TEMPLATE, special=("</s>", "<tool_call>", "</tool_call>")))
    assert (dialect.opening_id, dialect.closing_id) == (1, 2)
    assert dialect.shown_ids == {1, 2}
    assert dialect_of(Template(MISTRAL_TEMPLATE, special=("[TOOL_CALLS]",))).shown_ids == {0}
    assert dialect_of(Template(QWEN_TEMPLATE)).shown_ids == frozenset()


def test_the_default_model_knows_no_tools(tokenizer: TextTokenizer) -> None:
    assert dialect_of(tokenizer) == Dialect(HERMES, native=False, opening_id=None, closing_id=None)
