"""The calls and results of earlier turns, checked, as chat templates know them.

Arguments are a string in OpenAI's messages and an object in templates, which write it as JSON themselves; what is no
JSON object stays a string. Source: OpenAI's API reference; the templates of Qwen, Llama and Mistral.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from genkan.errors import InvalidRequest
from genkan.serving.tools.definitions import MAX_TOOLS
from genkan.wire.fields import Fields, wrong_type

Message = dict[str, Any]

MAX_ID_CHARS = 256
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def has_calls(messages: Sequence[Message]) -> bool:
    """Whether there is anything here that is not plain speech. Cost: one look at each message."""
    return any(message["role"] == "tool" or message.get("tool_calls") for message in messages)


def messages_of(messages: Sequence[Message]) -> list[Message]:
    """``messages`` of a ChatRequest with content as one string, and ``developer``, its newer name, as system.

    Messages have ``tool_calls`` only where there are calls. A result has the ``name`` of the tool that was called.
    Raises InvalidRequest for calls that are none, and for a result of no earlier call.
    """
    called: dict[str, str] = {}  # the tool of each call so far, by the call's id
    plain: list[Message] = []
    for index, message in enumerate(messages):
        path, role = f"messages[{index}]", message["role"]
        shown: Message = {"role": "system" if role == "developer" else role, "content": _text(message.get("content"))}
        if role == "assistant" and (given := message.get("tool_calls")) is not None:
            calls = _calls(given, f"{path}.tool_calls")
            called.update((call["id"], call["function"]["name"]) for call in calls)
            if calls:
                shown["tool_calls"] = calls
        elif role == "tool":
            call_id = _result_of(message, path, called)
            shown.update(tool_call_id=call_id, name=called[call_id])
        plain.append(shown)
    return plain


def one_call_a_message(messages: Sequence[Message]) -> list[Message]:
    """For templates that refuse several calls in one message: each call in its own, its result right after it."""
    results = {message["tool_call_id"]: message for message in messages if message["role"] == "tool"}
    single: list[Message] = []
    moved: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            if message.get("tool_call_id") not in moved:
                single.append(message)
            continue
        for place, call in enumerate(calls):
            single.append({**message, "content": "" if place else message["content"], "tool_calls": [call]})
            if (result := results.get(call["id"])) is not None:
                single.append(result)
                moved.add(call["id"])
    return single


def with_short_ids(messages: Sequence[Message]) -> list[Message]:
    """For Mistral's templates, which take ids of nine letters and digits only: the same id is always the same."""
    short: list[Message] = []
    for message in messages:
        message = dict(message)
        if "tool_calls" in message:
            message["tool_calls"] = [{**call, "id": _short(call["id"])} for call in message["tool_calls"]]
        if "tool_call_id" in message:
            message["tool_call_id"] = _short(message["tool_call_id"])
        short.append(message)
    return short


def _calls(given: Any, path: str) -> list[dict[str, Any]]:
    if type(given) is not list:
        raise wrong_type(path, "a list", given)
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(f"'{path}' must have at most {MAX_TOOLS} entries; given: {len(given)}.", param=path)
    return [_call(call, f"{path}[{place}]") for place, call in enumerate(given)]


def _call(given: Any, path: str) -> dict[str, Any]:
    if type(given) is not dict:
        raise wrong_type(path, "an object", given)
    fields = Fields(given, path)
    fields.require("id")
    fields.require("type")
    fields.choice("type", ("function",))
    fields.require("function")
    function = fields.object("function")
    assert function is not None  # required above
    function.require("name")
    arguments = function.string("arguments")
    return {
        "id": fields.string("id", max_chars=MAX_ID_CHARS),
        "type": "function",
        "function": {"name": function.string("name", max_chars=64), "arguments": _object_of(arguments or "{}")},
    }


def _object_of(arguments: str) -> dict[str, Any] | str:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if type(value) is dict else arguments


def _result_of(message: Message, path: str, called: dict[str, str]) -> str:
    fields = Fields(message, path)
    fields.require("tool_call_id")
    call_id = fields.string("tool_call_id", max_chars=MAX_ID_CHARS)
    if call_id not in called:
        raise InvalidRequest(
            f"'{path}.tool_call_id' must be the id of a call in an earlier message's 'tool_calls'.",
            param=f"{path}.tool_call_id",
        )
    return call_id


def _text(content: Any) -> str:
    if type(content) is list:
        return "".join(part["text"] for part in content)
    return content or ""


def _short(call_id: str) -> str:
    if len(call_id) == 9 and call_id.isascii() and call_id.isalnum():
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest())
    return "".join(_ALPHABET[number // 62**place % 62] for place in range(9))
