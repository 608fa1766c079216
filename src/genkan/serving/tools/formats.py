"""How models write tool calls, and which way a model's chat template was trained for.

Three forms, each with what its models were shown in training:

* Hermes, also Qwen 2.5 and 3: ``<tool_call>{"name": …, "arguments": …}</tool_call>``, each part on a line of its own.
* Llama 3.x: the answer is ``{"name": …, "parameters": …}``, with ``<|python_tag|>`` before it or without; one call.
* Mistral, up to the templates that write ``[ARGS]``: ``[TOOL_CALLS][{"name": …, "arguments": …}, …]``.

A template that takes no tools, or writes calls in a form not known here, is treated as one without: its tools are
described in words (``spelt_out.py``), and the Hermes form is asked for.

Source: the chat templates of those models, and vLLM's tool parsers of the same names.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, Protocol


class TemplateTokenizer(Protocol):
    """What of a model's tokenizer says how it writes calls."""

    @property
    def template_source(self) -> str: ...

    @property
    def template_takes_tools(self) -> bool: ...

    @property
    def special_ids(self) -> AbstractSet[int]: ...

    def token_id(self, text: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A way to write calls: ``opening``, one object or, ``listed``, a JSON list of them, ``closing``.

    ``bare``: an answer that begins with an object needs no opening. ``arguments`` is their key in the object.
    ``separator`` stands between calls; None: an answer has one at most.
    """

    name: Literal["hermes", "llama", "mistral"]
    opening: str
    closing: str
    arguments: Literal["arguments", "parameters"]
    separator: str | None
    listed: bool = False
    bare: bool = False


HERMES: Final = ToolFormat("hermes", "<tool_call>", "</tool_call>", "arguments", "\n")
LLAMA: Final = ToolFormat("llama", "<|python_tag|>", "", "parameters", None, bare=True)
MISTRAL: Final = ToolFormat("mistral", "[TOOL_CALLS]", "", "arguments", ", ", listed=True)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A format as one model writes it.

    ``native``: the template renders tools and calls itself. ``opening_id`` and ``closing_id`` are those of special
    tokens, which text is decoded without unless it is told; None: the marker is text.
    """

    format: ToolFormat
    native: bool
    opening_id: int | None
    closing_id: int | None

    @property
    def shown_ids(self) -> frozenset[int]:
        return frozenset(marker for marker in (self.opening_id, self.closing_id) if marker is not None)


def dialect_of(tokenizer: TemplateTokenizer) -> Dialect:
    """How the model of ``tokenizer`` writes calls. Cost: a few searches in the template's source."""
    known = _format_of(tokenizer.template_source) if tokenizer.template_takes_tools else None
    chosen = known or HERMES
    return Dialect(
        chosen, known is not None, _special_id(tokenizer, chosen.opening), _special_id(tokenizer, chosen.closing)
    )


def _format_of(source: str) -> ToolFormat | None:
    # Others write <tool_call> with XML inside: <function=…> (Qwen3-Coder), <arg_key>… (GLM).
    if "<tool_call>" in source and "arguments" in source and "<function=" not in source and "<arg_key>" not in source:
        return HERMES
    if "[TOOL_CALLS]" in source and "[ARGS]" not in source:
        return MISTRAL
    if "<|start_header_id|>" in source and "parameters" in source:
        return LLAMA
    return None


def _special_id(tokenizer: TemplateTokenizer, marker: str) -> int | None:
    token = tokenizer.token_id(marker) if marker else None
    return token if token in tokenizer.special_ids else None
