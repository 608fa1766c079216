"""A model's chat templates: messages to the text of a prompt.

A template is a program that comes with a model's files, so it runs in `template_sandbox`; messages are data to it and
never run. What a template finds there is what transformers' ``apply_chat_template`` gives it (5.23,
``utils/chat_template_utils.py``), and the text that comes out is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any

from jinja2 import Template, TemplateError, meta

from genkan.errors import InvalidRequest, ModelFileError
from genkan.upstream.template_meter import Meter, size_of
from genkan.upstream.template_sandbox import TemplateSandbox

_MAX_SOURCE_CHARS = 1 << 18  # ten times the longest that is known
_MAX_REASON_CHARS = 1000
_DEFAULT, _TOOL_USE = "default", "tool_use"


def local_time() -> datetime:
    """The time on the wall, as templates print it."""
    return datetime.now().astimezone()


class ChatTemplate:
    """The templates of one model, by name. Renders one chat at a time, whichever thread asks."""

    def __init__(
        self, sources: Mapping[str, str], named_tokens: Mapping[str, str], now: Callable[[], datetime]
    ) -> None:
        """``named_tokens`` are what templates see as ``bos_token`` and so on. Raises ModelFileError."""
        self._meter = Meter()
        self._sandbox = TemplateSandbox(self._meter, now)
        self._templates = {name: self._read(source) for name, source in sources.items()}
        self._named_tokens = dict(named_tokens)
        self._lock = Lock()
        self.source = sources.get(_DEFAULT, next(iter(sources.values()), ""))
        self.takes_tools = _TOOL_USE in sources or self._mentions_tools()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None,
        documents: Sequence[Mapping[str, Any]] | None,
    ) -> str:
        """The prompt's text. Raises InvalidRequest with the template's own words where it refuses.

        How much a template may do grows with what it is given; see `Meter.allow`.
        """
        given = {"messages": messages, "tools": tools, "documents": documents}
        template = self._chosen(tools)
        with self._lock:
            try:
                self._meter.allow(size_of(given))
                context = template.new_context({**self._named_tokens, **given, "add_generation_prompt": True})
                # Not Template.render: that rewrites the traceback of an error, which costs more than the template.
                return self._sandbox.concat(template.root_render_func(context))
            except Exception as error:  # noqa: BLE001  # whatever its template raises is the model's refusal
                raise InvalidRequest(
                    f"The model's chat template refuses these messages: {_reason(error)}", param="messages"
                ) from None

    def _chosen(self, tools: Sequence[Mapping[str, Any]] | None) -> Template:
        if tools and _TOOL_USE in self._templates:
            return self._templates[_TOOL_USE]
        return self._templates.get(_DEFAULT) or next(iter(self._templates.values()))

    def _read(self, source: str) -> Template:
        if not isinstance(source, str):  # a file may say anything
            raise ModelFileError(f"the model's chat template is no text: {source!r}")
        if len(source) > _MAX_SOURCE_CHARS:
            raise ModelFileError(
                f"the model's chat template has {len(source)} characters; at most {_MAX_SOURCE_CHARS} are read"
            )
        try:
            return self._sandbox.compiled(source)
        except Exception as error:
            raise ModelFileError(f"the model's chat template cannot be read: {_reason(error)}") from error

    def _mentions_tools(self) -> bool:
        return "tools" in meta.find_undeclared_variables(self._sandbox.parse(self.source))


def _reason(error: Exception) -> str:
    said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
    return said if len(said) <= _MAX_REASON_CHARS else said[:_MAX_REASON_CHARS] + "…"
