"""The messages of a chat, checked: who speaks, what, and which tools were called with what result."""

from typing import Any

from genkan.errors import InvalidRequest
from genkan.wire.fields import Fields, wrong_type

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_CALLS = 128  # of one message
MAX_CALL_ID_CHARS = 256
MAX_NAME_CHARS = 256


def read_messages(fields: Fields) -> list[dict[str, Any]]:
    """The messages of a body. Raises InvalidRequest with the path of what is wrong; one pass, most in no call."""
    messages = fields.list("messages")
    if messages is None:
        raise fields.missing("messages")
    if not messages:
        raise InvalidRequest("'messages' must have at least one message.", param="messages")
    for index, message in enumerate(messages):
        if (
            type(message) is dict
            and len(message) == 2
            and type(message.get("content")) is str
            and message.get("role") in ROLES
        ):
            continue  # as nearly all are
        _check_message(message, f"messages[{index}]")
    return messages


def _check_message(message: Any, path: str) -> None:
    if type(message) is not dict:
        raise wrong_type(path, "an object", message)
    fields = Fields(message, path)
    fields.require("role")
    role = fields.choice("role", ROLES)
    fields.string("name", max_chars=MAX_NAME_CHARS)
    fields.string("tool_call_id", max_chars=MAX_CALL_ID_CHARS)
    content = message.get("content")
    if type(content) is list:
        _check_parts(content, f"{path}.content")
    elif type(content) is not str and not (content is None and role in ("assistant", "function")):
        raise wrong_type(f"{path}.content", "a string or a list of parts", content)
    if (calls := fields.list("tool_calls")) is not None:
        _check_calls(calls, f"{path}.tool_calls")


def _check_parts(parts: list[Any], path: str) -> None:
    if not parts:
        raise InvalidRequest(f"'{path}' must have at least one part.", param=path)
    for index, part in enumerate(parts):
        if type(part) is not dict:
            raise wrong_type(f"{path}[{index}]", "an object", part)
        fields = Fields(part, f"{path}[{index}]")
        fields.require("type")
        if fields.string("type") == "text":
            fields.string("text")
            fields.require("text")


def _check_calls(calls: list[Any], path: str) -> None:
    """Calls of an earlier answer. Those of a kind that is not known here are left to the upstream."""
    if len(calls) > MAX_CALLS:
        raise InvalidRequest(f"'{path}' must have at most {MAX_CALLS} entries; given: {len(calls)}.", param=path)
    for index, call in enumerate(calls):
        if type(call) is not dict:
            raise wrong_type(f"{path}[{index}]", "an object", call)
        fields = Fields(call, f"{path}[{index}]")
        fields.string("id", max_chars=MAX_CALL_ID_CHARS)
        if fields.string("type") not in (None, "function"):
            continue
        if (function := fields.object("function")) is None:
            raise fields.missing("function")
        function.require("name")
        function.string("name", max_chars=MAX_NAME_CHARS)
        function.string("arguments")
