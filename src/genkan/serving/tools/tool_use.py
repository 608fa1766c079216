"""One request's tools: what the template gets, what the answer must look like, and how calls are found in it."""

from collections.abc import Sequence
from typing import Any, Self

from genkan.engine.grammar.spec import GrammarSpec
from genkan.serving.constraints import constraint_of
from genkan.serving.tools.begun_parser import BegunParser
from genkan.serving.tools.call_grammar import grammar_of
from genkan.serving.tools.choice import ToolChoice, read_choice
from genkan.serving.tools.definitions import Tool, read_tools
from genkan.serving.tools.formats import LLAMA, MISTRAL, Dialect, TemplateTokenizer, dialect_of
from genkan.serving.tools.history import has_calls, messages_of, one_call_a_message, with_short_ids
from genkan.serving.tools.spelt_out import with_tools, without_calls
from genkan.serving.tools.tool_parser import ToolParser
from genkan.wire.chat import ChatRequest


class ToolUse:
    """The tools of one request, for one model.

    With ``tool_choice`` none the tools are shown all the same, as OpenAI and vLLM do, so that a conversation keeps its
    cached prefix; the grammar keeps calls from being begun.
    """

    def __init__(
        self, tools: tuple[Tool, ...], choice: ToolChoice, dialect: Dialect, answer: GrammarSpec | None = None
    ) -> None:
        """``answer`` is the form of an answer without calls. Raises UnsupportedOption where it cannot be."""
        self._tools = tools
        self._choice = choice
        self._dialect = dialect
        #: The form of the whole answer, ``response_format`` included; None: any text.
        self.grammar = grammar_of(dialect, choice, answer) if tools else answer

    @classmethod
    def of(cls, request: ChatRequest, tokenizer: TemplateTokenizer) -> Self | None:
        """None where there are neither tools nor calls in the history. Raises InvalidRequest naming what is wrong."""
        tools = read_tools(request.raw)
        choice = read_choice(request.raw, tools)
        if not tools and not has_calls(request.messages):
            return None
        return cls(tools, choice, dialect_of(tokenizer), constraint_of(request))

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """For the template; None where it has no place for them or there are none."""
        return [tool.for_template() for tool in self._tools] if self._tools and self._dialect.native else None

    @property
    def shown_ids(self) -> frozenset[int]:
        """Special tokens whose spelling the parser needs in the text."""
        return self._dialect.shown_ids if self._choice.tools else frozenset()

    def messages(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages of a ChatRequest as the template wants them. Raises InvalidRequest naming what is wrong."""
        plain = messages_of(messages)
        if not self._dialect.native:
            plain = without_calls(plain)
            return with_tools(plain, self._tools) if self._tools else plain
        if self._dialect.format is LLAMA:
            return one_call_a_message(plain)
        return with_short_ids(plain) if self._dialect.format is MISTRAL else plain

    def parser(self, beginning: str = "") -> ToolParser | BegunParser:
        """A parser for one answer; for what comes after its ``beginning``."""
        parser = ToolParser(self._dialect, [tool.name for tool in self._choice.tools])
        return BegunParser(parser, beginning) if beginning else parser
