"""What a grammar lets a model say, over the default model's vocabulary; and that all of it parses and validates."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from grammar_rigs import Writer, grammars, real_table
from tool_rigs import (
    HERMES_TEXT,
    LLAMA_TAG,
    LLAMA_TEXT,
    MISTRAL_TEXT,
    MISTRAL_TOKEN,
    WEATHER,
    function,
    parsed,
    tools,
)

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.spec import GrammarSpec
from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.tools.call_grammar import MAX_CALLS, grammar_of
from genkan.serving.tools.choice import ChoiceMode, ToolChoice
from genkan.serving.tools.deltas import CallArguments, CallBegan, TextDelta
from genkan.serving.tools.formats import HERMES, LLAMA, MISTRAL, Dialect
from genkan.upstream.tokenizer import TextTokenizer

Accepts = Callable[[GrammarSpec, str], bool]
TOOLS = tools()
OSLO = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}'
TIME = '{"name": "get_time", "arguments": {}}'
WRONG = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 15}}'
# The default model has none of the markers: two of its special tokens stand for them.
TOKENS = {"[TOOL_CALLS]": "<repo_name>", "<|python_tag|>": "<file_sep>"}


def token_dialect(tokenizer: TextTokenizer, dialect: Dialect) -> Dialect:
    """The same with its marker as a special token of the default model's."""
    opening_id = tokenizer.token_id(TOKENS[dialect.format.opening])
    return Dialect(dialect.format, native=True, opening_id=opening_id, closing_id=None)


def spec_of(
    dialect: Dialect, mode: ChoiceMode, *, several: bool = True, answer: GrammarSpec | None = None
) -> GrammarSpec:
    spec = grammar_of(dialect, ToolChoice(mode, () if mode == "none" else TOOLS, several), answer)
    assert spec is not None
    return spec


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


def llama(call: str) -> str:
    return call.replace("arguments", "parameters")


@pytest.mark.parametrize(
    ("dialect", "one", "two", "wrong"),
    [
        (HERMES_TEXT, hermes(OSLO), hermes(OSLO, TIME), hermes(WRONG)),
        (MISTRAL_TEXT, f"[TOOL_CALLS][{OSLO}]", f"[TOOL_CALLS][{OSLO}, {TIME}]", f"[TOOL_CALLS][{WRONG}]"),
    ],
)
def test_a_call_that_is_required_is_one_or_several_in_the_format(
    accepts: Accepts, dialect: Dialect, one: str, two: str, wrong: str
) -> None:
    many, single = spec_of(dialect, "required"), spec_of(dialect, "required", several=False)
    assert [accepts(many, text) for text in (one, two, wrong, "", f"x{one}", f"{one}x")] == [True, True, *[False] * 4]
    assert [accepts(single, text) for text in (one, two)] == [True, False]


def test_llamas_call_is_one_with_its_tag_or_without(accepts: Accepts, tokenizer: TextTokenizer) -> None:
    spec = spec_of(token_dialect(tokenizer, LLAMA_TAG), "required")
    said = [llama(OSLO), "<file_sep>" + llama(OSLO), llama(WRONG), OSLO, f"{llama(OSLO)}; {llama(TIME)}"]
    assert [accepts(spec, text) for text in said] == [True, True, False, False, False]
    assert accepts(spec_of(LLAMA_TEXT, "required"), llama(OSLO))


def test_calls_that_are_required_end(accepts: Accepts) -> None:
    spec = spec_of(HERMES_TEXT, "required")
    assert accepts(spec, hermes(*[TIME] * MAX_CALLS))
    assert not accepts(spec, hermes(*[TIME] * (MAX_CALLS + 1)))


@pytest.mark.parametrize(
    ("dialect", "call"), [(HERMES_TEXT, hermes), (MISTRAL_TEXT, lambda call: f"[TOOL_CALLS][{call}]")]
)
def test_text_is_free_until_a_call_begins(accepts: Accepts, dialect: Dialect, call: Callable[[str], str]) -> None:
    spec = spec_of(dialect, "auto")
    free = ["", "Hello {[<tool\n", f"So: {call(OSLO)}"]
    assert all(accepts(spec, text) for text in free)
    assert not any(accepts(spec, text) for text in (call(WRONG), dialect.format.opening, call(OSLO)[:-1]))


def test_between_calls_and_after_them_there_may_be_text(accepts: Accepts) -> None:
    text = f"One {hermes(OSLO)} two {hermes(TIME)} three"
    assert accepts(spec_of(HERMES_TEXT, "auto"), text)
    assert not accepts(spec_of(HERMES_TEXT, "auto", several=False), text)


def test_a_marker_that_is_a_token_is_no_text_and_cannot_be_spelt_out(
    accepts: Accepts, tokenizer: TextTokenizer
) -> None:
    spec = spec_of(token_dialect(tokenizer, MISTRAL_TOKEN), "auto")
    said = ["Yes.", f"Yes.<repo_name>[{OSLO}]", f"<repo_name>[{WRONG}]", "<repo_name>", f"[TOOL_CALLS][{OSLO}]"]
    assert [accepts(spec, text) for text in said] == [True, True, False, False, False]


def test_an_answer_of_llamas_that_begins_as_json_is_a_call(accepts: Accepts, tokenizer: TextTokenizer) -> None:
    spec = spec_of(token_dialect(tokenizer, LLAMA_TAG), "auto")
    said = ["Hi {", "", llama(OSLO), f"Hm.<file_sep>{llama(TIME)}", '{"answer": 1}', " {", "Hm <|python_tag|>"]
    assert [accepts(spec, text) for text in said] == [True, True, True, True, False, False, False]


def test_with_none_no_call_begins(accepts: Accepts) -> None:
    spec = spec_of(HERMES_TEXT, "none")
    assert [accepts(spec, text) for text in ("", "a <tool b", "<tool_call>")] == [True, True, False]
    assert grammar_of(LLAMA_TAG, ToolChoice("none", (), False), None) is None
    form = GrammarSpec("choice", '["a"]')
    assert grammar_of(HERMES_TEXT, ToolChoice("none", (), False), form) == form


def test_beside_calls_an_answer_may_have_a_form_in_json(accepts: Accepts) -> None:
    answer = GrammarSpec("json_schema", '{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}}')
    spec = spec_of(HERMES_TEXT, "auto", answer=answer)
    said = ['{"x":1}', hermes(OSLO), "Hello", '{"x":"1"}', f'{{"x":1}}{hermes(TIME)}']
    assert [accepts(spec, text) for text in said] == [True, True, False, False, False]
    assert accepts(spec_of(HERMES_TEXT, "auto", answer=GrammarSpec("json_object")), '{"y":[]}')
    assert spec_of(HERMES_TEXT, "required", answer=answer) == spec_of(HERMES_TEXT, "required")


@pytest.mark.parametrize(
    ("dialect", "mode", "answer"),
    [
        (HERMES_TEXT, "auto", GrammarSpec("regex", "a")),
        (HERMES_TEXT, "required", GrammarSpec("choice", '["a"]')),
        (LLAMA_TAG, "auto", GrammarSpec("json_object")),
    ],
)
def test_other_forms_beside_calls_are_refused_by_name(dialect: Dialect, mode: ChoiceMode, answer: GrammarSpec) -> None:
    with pytest.raises(UnsupportedOption):
        spec_of(dialect, mode, answer=answer)


UNIQUE: dict[str, Any] = {"properties": {"a": {"type": "array", "items": {"type": "null"}, "uniqueItems": True}}}


def test_a_strict_tool_has_all_of_its_schema_or_is_refused() -> None:
    strict, loose = tools(function("a", UNIQUE, strict=True)), tools(function("a", UNIQUE))
    with pytest.raises(InvalidRequest, match=r"'a'.*uniqueItems") as caught:
        grammar_of(HERMES_TEXT, ToolChoice("auto", strict, True), None)
    assert caught.value.param == "tools"
    assert grammar_of(HERMES_TEXT, ToolChoice("auto", loose, True), None) is not None


def test_a_schema_may_hold_what_looks_like_a_grammars_directive(accepts: Accepts) -> None:
    odd = tools(function("a", {"properties": {"%json": {"enum": ["%ignore", "%"]}}, "required": ["%json"]}))
    spec = grammar_of(HERMES_TEXT, ToolChoice("required", odd, False), None)
    assert spec is not None
    assert accepts(spec, hermes('{"name": "a", "arguments": {"%json": "%ignore"}}'))


def test_an_answers_schema_beside_calls_is_checked_too() -> None:
    with pytest.raises(InvalidRequest, match="uniqueItems") as caught:
        spec_of(HERMES_TEXT, "auto", answer=GrammarSpec("json_schema", json.dumps(UNIQUE)))
    assert caught.value.param == "response_format"


# --- Random logits ---


@pytest.fixture(scope="module")
def compiled() -> Iterator[Grammars]:
    made = grammars(real_table())
    yield made
    made.close()


@pytest.fixture
def writer() -> Writer:
    return Writer(real_table())


SCHEMAS = {"get_weather": WEATHER, "get_time": TOOLS[1].parameters}
FORMATS = [HERMES, LLAMA, MISTRAL]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["auto", "required", "named"])
@pytest.mark.parametrize("its_format", FORMATS, ids=lambda its_format: its_format.name)
def test_on_random_logits_every_call_parses_and_validates(
    babble: Any, tokenizer: TextTokenizer, its_format: Any, mode: ChoiceMode, seed: int
) -> None:
    dialect = Dialect(its_format, native=True, opening_id=None, closing_id=None)
    begins, leaning = "", frozenset[int]()
    if mode == "auto" and its_format is HERMES:
        begins = "I look. <tool_call>"  # nobody spells it out by chance
    elif mode == "auto":
        dialect = token_dialect(tokenizer, dialect)
        assert dialect.opening_id is not None
        leaning = frozenset({dialect.opening_id})
    offered = TOOLS[:1] if mode == "named" else TOOLS
    spec = grammar_of(dialect, ToolChoice(mode, offered, several=True), None)
    text, ended = babble(spec, seed, begins=begins, leaning=leaning)
    assert ended
    for marker, token in TOKENS.items():
        text = text.replace(token, marker)
    found = parsed(dialect, [text])
    calls = {delta.place: delta.name for delta in found if isinstance(delta, CallBegan)}
    assert calls
    assert mode == "auto" or not any(isinstance(delta, TextDelta) for delta in found)
    for delta in found:
        if isinstance(delta, CallArguments):
            jsonschema.validate(json.loads(delta.text), SCHEMAS[calls.pop(delta.place)])
    assert not calls  # each had its arguments


@pytest.mark.anyio
@pytest.mark.parametrize("max_tokens", [60, 90, 120])
@pytest.mark.parametrize("its_format", FORMATS, ids=lambda its_format: its_format.name)
async def test_no_call_is_begun_that_cannot_be_ended(
    compiled: Grammars, writer: Writer, its_format: Any, max_tokens: int
) -> None:
    dialect = Dialect(its_format, native=True, opening_id=None, closing_id=None)
    grammar = await compiled.compiled(spec_of(dialect, "required"))
    for _ in range(10):
        text, ended = writer.text(grammar.matcher(), max_tokens)
        assert ended
        found = parsed(dialect, [text.decode()])
        for delta in found:
            if isinstance(delta, CallArguments):
                json.loads(delta.text)
        assert found
        assert isinstance(found[-1], CallArguments)


@pytest.mark.anyio
@pytest.mark.parametrize(("max_tokens", "is_begun"), [(400, True), (50, False)])
async def test_text_goes_on_to_a_call_only_where_there_is_room(
    compiled: Grammars, writer: Writer, tokenizer: TextTokenizer, max_tokens: int, is_begun: bool
) -> None:
    matcher = (await compiled.compiled(spec_of(HERMES_TEXT, "auto"))).matcher()
    said = tokenizer.encode(f"So: {hermes(TIME)} and <tool_call>\n")
    taken = [matcher.take(token, max_tokens - place - 1) for place, token in enumerate(said[:-1])]
    assert (taken == said[:-1]) is is_begun
    assert taken[-1] == (said[-2] if is_begun else tokenizer.eos_id)
