"""Grammars of answers with tool calls: in the model's own format, each call's arguments by its own tool's schema.

Where a call must come, the answer is calls and nothing else. Where it may, any text goes until a call's opening marker;
from there on the call is held to the grammar like one that had to come, so a call that was begun always parses.

The arguments of each tool are a schema of their own, for its ``$ref`` point into it.

Source: llguidance's Lark (``%json``, lazy lexemes, ``<[id]>`` for special tokens).
"""

import json
import re
from functools import lru_cache
from typing import Final

from genkan.engine.grammar.json_schema import SchemaRefused, checked
from genkan.engine.grammar.spec import GrammarSpec
from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.loose_schema import loosened
from genkan.serving.tools.choice import ToolChoice
from genkan.serving.tools.definitions import Tool
from genkan.serving.tools.formats import Dialect

MAX_CALLS = 16  # of an answer that consists of calls: a weak model writes them for ever

_SPACED: Final = {"item_separator": ", ", "key_separator": ": "}
_TEXT: Final = "/(?s:.*)/"


def grammar_of(dialect: Dialect, choice: ToolChoice, answer: GrammarSpec | None) -> GrammarSpec | None:
    """The grammar of an answer where ``choice`` is made; None: any text will do.

    ``answer`` is the form that the request wants of an answer without calls. Raises UnsupportedOption for one that
    cannot stand beside calls.
    """
    if choice.mode == "none":
        return answer or _silent(dialect)
    if answer is not None and not answer.kind.startswith("json"):
        raise UnsupportedOption(
            "structured_outputs", f"with 'tool_choice' {choice.mode}, the answer has the form of a call"
        )
    if choice.mode != "auto":
        start = ["start: calls"]
    elif answer is None:
        start = _calls_in_text(dialect, choice.several)
    else:
        start = _calls_or_answer(dialect, answer)
    rules = [*start, *_calls(dialect, choice.several), *_bodies(dialect, choice.tools)]
    return GrammarSpec("lark", "\n".join(rules) + "\n")


def _silent(dialect: Dialect) -> GrammarSpec | None:
    """Any text in which no call begins. A call that needs no marker cannot be told from other JSON: it is let be."""
    if dialect.format.bare:
        return None
    return GrammarSpec("lark", f"start: TEXT\nTEXT: {_TEXT} & {_unmarked(dialect)}\n")


def _calls_in_text(dialect: Dialect, several: bool) -> list[str]:
    """Calls where the model wants them.

    A lazy lexeme ends as soon as the marker is there. One that is a special token is no text, but could be spelt out.
    """
    if dialect.format.bare:
        after_text = [] if dialect.opening_id is None else ["TEXT opened"]
        start = f"start: {' | '.join(['TEXT?', 'calls', *after_text])}"
        return [start, rf"TEXT: /[^{{\s](?s:.*)/ & {_unmarked(dialect)}"]
    many = several and not dialect.format.listed
    start = "start: (lead call)* TEXT" if many else "start: TEXT | lead call"
    if dialect.opening_id is not None:
        return [start, f"lead: TEXT <[{dialect.opening_id}]>", f"TEXT: {_TEXT} & {_unmarked(dialect)}"]
    return [start, f"lead[lazy]: TEXT {_quoted(dialect.format.opening)}", f"TEXT: {_TEXT}"]


def _unmarked(dialect: Dialect) -> str:
    """Text that does not hold the opening marker. Special tokens are not in any text."""
    return f"~/(?s:.*){re.escape(dialect.format.opening)}(?s:.*)/"


def _calls_or_answer(dialect: Dialect, answer: GrammarSpec) -> list[str]:
    """Calls alone, or an answer in JSON alone."""
    if dialect.format.bare:
        raise UnsupportedOption("response_format", "this model's calls are plain JSON; 'tool_choice' must not be auto")
    try:
        schema = _schema(answer.text or '{"type":"object"}', strict=True)
    except SchemaRefused as error:
        raise InvalidRequest(f"The schema of the answer cannot be used {error}.", param="response_format") from None
    return ["start: calls | answer", f"answer: %json {schema}"]


def _calls(dialect: Dialect, several: bool) -> list[str]:
    """``calls``, one or more; ``opened``, a marker and a call or a list of calls; ``call``, the same without marker."""
    its, more = dialect.format, f"{{0,{MAX_CALLS - 1}}}"
    opening = _marker(its.opening, dialect.opening_id)
    call, calls = "body", "opened"
    if its.listed:
        call = f'"[" body ({_quoted(", ")} body){more} "]"' if several else '"[" body "]"'
    elif its.closing:
        call = f'"\\n" body "\\n" {_marker(its.closing, dialect.closing_id)}'
        calls = f'opened ("\\n" opened){more}' if several else "opened"
    elif its.bare:
        calls = "body" if dialect.opening_id is None else "body | opened"
    return [f"calls: {calls}", f"opened: {opening} call", f"call: {call}"]


def _bodies(dialect: Dialect, tools: tuple[Tool, ...]) -> list[str]:
    """``body``: the object of one call, of any of the tools."""
    rules = [f"body: {' | '.join(f'body_{place}' for place in range(len(tools)))}"]
    for place, tool in enumerate(tools):
        head = _quoted(f'{{"name": "{tool.name}", "{dialect.format.arguments}": ')
        rules += [f'body_{place}: {head} arguments_{place} "}}"', f"arguments_{place}: %json {_arguments(tool)}"]
    return rules


def _arguments(tool: Tool) -> str:
    try:
        return _schema(tool.schema, tool.strict, spaced=True)
    except SchemaRefused as error:
        raise InvalidRequest(
            f"The parameters of the tool '{tool.name}' cannot be used {error}.", param="tools"
        ) from None


@lru_cache(maxsize=256)  # agents send the same tools with each turn
def _schema(text: str, strict: bool, spaced: bool = False) -> str:
    """A schema as grammars have it; ``strict``, it is refused if not all of it holds. Raises SchemaRefused.

    ``spaced``: with a space after commas and colons, as models learnt to write calls and as templates repeat them in
    the next turn, whose cached prefix would end at the call otherwise.

    The engine would refuse it too, but could not say whose it is. Cost: 10 µs for each schema in it.
    """
    schema = json.loads(text)
    loose = loosened(schema)
    checked(schema if strict else loose)
    if spaced:
        loose["x-guidance"] = _SPACED
    compact = json.dumps(loose, separators=(",", ":"))
    return compact.replace("%", "\\u0025")  # in strings alone: elsewhere in the grammar it begins a directive


def _marker(text: str, token_id: int | None) -> str:
    return _quoted(text) if token_id is None else f"<[{token_id}]>"


def _quoted(text: str) -> str:
    return json.dumps(text)
