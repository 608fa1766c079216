"""Tools, chat templates that write calls, and what a parser makes of a text."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from genkan.serving.tools.definitions import Tool, read_tools
from genkan.serving.tools.deltas import CallArguments, Delta, TextDelta
from genkan.serving.tools.formats import HERMES, LLAMA, MISTRAL, Dialect
from genkan.serving.tools.tool_parser import ToolParser

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12, "description": "Where"},
        "days": {"$ref": "#/$defs/Days"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"Days": {"type": "integer", "minimum": 1, "maximum": 14}},
}
HERMES_TEXT = Dialect(HERMES, native=True, opening_id=None, closing_id=None)
HERMES_SPELT = Dialect(HERMES, native=False, opening_id=None, closing_id=None)
LLAMA_TEXT = Dialect(LLAMA, native=True, opening_id=None, closing_id=None)
LLAMA_TAG = Dialect(LLAMA, native=True, opening_id=7, closing_id=None)
MISTRAL_TEXT = Dialect(MISTRAL, native=True, opening_id=None, closing_id=None)
MISTRAL_TOKEN = Dialect(MISTRAL, native=True, opening_id=5, closing_id=None)

# Minimal templates with what real ones of the family write and read.
QWEN_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- '# Tools\\n<tools>' }}{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}{{ '\\n</tools>\\n' }}
{{- 'Answer with <tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif not (loop.first and message.role == 'system') %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{{ '<|im_start|>assistant\\n' }}"""
LLAMA_TEMPLATE = """\
{%- for message in messages %}
{{- '<|start_header_id|>' + ('ipython' if message.role == 'tool' else message.role) + '<|end_header_id|>\\n\\n' }}
{%- if 'tool_calls' in message %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}
{{- '{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' }}
{{- message.tool_calls[0].function.arguments | tojson }}{{ '}' }}
{%- else %}{{ message.content }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}
{%- for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"""
MISTRAL_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if tools %}{{ '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST]' + message.content + '[/INST]' }}
{%- elif message.role == 'tool' %}
{{- '[TOOL_RESULTS]{"content": ' + (message.content | tojson) + ', "call_id": "' + message.tool_call_id + '"}' }}
{{- '[/TOOL_RESULTS]' }}
{%- elif message.tool_calls %}{{ '[TOOL_CALLS][' }}
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') }}
{%- endfor %}{{ ']' }}
{%- else %}{{ message.content }}{% endif %}{% endfor %}"""
PLAIN_TEMPLATE = """\
{%- for message in messages %}{{ '<|' + message.role + '|>' + message.content + '\\n' }}{% endfor %}
{{- '<|assistant|>' }}"""


@dataclass(frozen=True)
class Template:
    """A model's tokenizer, as far as its tools are concerned."""

    template_source: str
    special: tuple[str, ...] = ()

    @property
    def template_takes_tools(self) -> bool:
        return "tools" in self.template_source

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(range(len(self.special)))

    def token_id(self, text: str) -> int | None:
        return self.special.index(text) if text in self.special else None


def function(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A tool as clients send it."""
    body = {"name": name, **({} if parameters is None else {"parameters": parameters}), **more}
    return {"type": "function", "function": body}


def tools(*given: dict[str, Any]) -> tuple[Tool, ...]:
    return read_tools({"tools": list(given or (function("get_weather", WEATHER), function("get_time")))})


def parsed(dialect: Dialect, pieces: Iterable[str], names: Sequence[str] = ("get_weather", "get_time")) -> list[Delta]:
    """What is found in ``pieces``, deltas of a kind put together; the ids are ``id0``, ``id1`` and so on."""
    ids = itertools.count()
    parser = ToolParser(dialect, names, new_id=lambda: f"id{next(ids)}")
    found = [delta for piece in pieces for delta in parser.push(piece)]
    return joined(found + parser.flush())


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    merged: list[Delta] = []
    for delta in deltas:
        last = merged[-1] if merged else None
        if isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            merged[-1] = TextDelta(last.text + delta.text)
        elif isinstance(delta, CallArguments) and isinstance(last, CallArguments) and last.place == delta.place:
            merged[-1] = CallArguments(delta.place, last.text + delta.text)
        else:
            merged.append(delta)
    return merged
