"""Tools for chat templates that know none: everything is said in the text of ordinary messages.

The tools stand before the client's own system text, so that all requests with the same tools begin alike. Calls are
written in the Hermes form, results in ``<tool_response>`` of a user's turn, as models that know the form were trained.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from genkan.serving.tools.definitions import Tool

Message = dict[str, Any]

_HOW: Final = """\
You can call functions. These are the functions, each as a JSON object with the JSON schema of its arguments:
<tools>
{tools}
</tools>
To call a function, answer with its name and its arguments as a JSON object in <tool_call></tool_call>:
<tool_call>
{{"name": "the function's name", "arguments": {{}}}}
</tool_call>
What a function returned is given to you in <tool_response></tool_response>."""


def with_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """``messages`` with the tools in the system message; a first one is made where there is none."""
    described = "\n".join(json.dumps(tool.for_template()["function"], ensure_ascii=False) for tool in tools)
    text = _HOW.format(tools=described)
    if messages and messages[0]["role"] == "system":
        own, *rest = messages
        return [{"role": "system", "content": f"{text}\n\n{own['content']}"}, *rest]
    return [{"role": "system", "content": text}, *messages]


def without_calls(messages: Sequence[Message]) -> list[Message]:
    """``messages``, as ``history.messages_of`` gives them, with calls and results as text. Results that follow each
    other are one turn."""
    plain: list[Message] = []
    follows = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            text = _response(message["content"])
            if follows:
                plain[-1]["content"] += f"\n{text}"
            else:
                plain.append({"role": "user", "content": text})
        else:
            plain.append({"role": message["role"], "content": _spoken(message)})
        follows = is_result
    return plain


def _spoken(message: Message) -> str:
    calls = [_call(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join([*([message["content"]] if message["content"] or not calls else []), *calls])


def _call(function: dict[str, Any]) -> str:
    said = {"name": function["name"], "arguments": function["arguments"]}
    return f"<tool_call>\n{json.dumps(said, ensure_ascii=False)}\n</tool_call>"


def _response(text: str) -> str:
    """A result cannot end its own brackets, and so cannot speak as the user."""
    inside = text.replace("</tool_response", "<\\/tool_response")
    return f"<tool_response>\n{inside}\n</tool_response>"
