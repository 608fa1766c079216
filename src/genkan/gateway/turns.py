"""A chat, divided where it can be cut. Pure.

```
system developer | user assistant | user assistant(calls) tool tool assistant | user | assistant(calls) tool | assistant
      head       |     a turn     |                  a turn                   |     the newest turn, in its steps
```

* The head: what the system and the developer say before anybody else does.
* A turn begins with what a user says, or with the system's messages right before it, and ends before the next such.
  Turns are left out whole, for an answer without its question says little, and many models' templates refuse it; only
  of the newest turn, which may be an agent's long work, the older steps can go.
* A step is one message, or calls of tools with all that answers them and all between. What stands at the chat's end is
  one step with what it follows if it is a system's, or an answer, which is to be gone on with.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from genkan.gateway.graphemes import whole_until

Message = dict[str, Any]

_HEAD = ("system", "developer")
_NOT_ANSWERS = ("user", *_HEAD)
_RESULTS = ("tool", "function")


class Divided(NamedTuple):
    """``pieces`` are in their order, and any number can be left out at the beginning; the last one is always kept."""

    head: list[Message]
    pieces: list[list[Message]]


def divided(messages: list[Message]) -> Divided:
    """``messages``, of which there must be one, in pieces. Cost: 1 µs a message."""
    first = next((place for place, one in enumerate(messages) if one["role"] not in _HEAD), len(messages) - 1)
    cuts = _cuts(messages, _steps(messages, first))
    ends = [*cuts[1:], len(messages)]
    return Divided(messages[:first], [messages[begin:end] for begin, end in zip(cuts, ends, strict=True)])


def _steps(messages: list[Message], first: int) -> list[int]:
    """Where steps begin, from ``first`` on."""
    begins: list[int] = []
    callers: dict[str | None, int] = {}  # by a call's id: of ids that were used twice, the later one is meant
    for place in range(first, len(messages)):
        message = messages[place]
        role = message["role"]
        if role in _RESULTS and begins:
            caller = callers.get(message.get("tool_call_id"), begins[-1])
            while begins[-1] > caller:
                begins.pop()
            continue
        if begins and messages[place - 1]["role"] in _HEAD and role in _NOT_ANSWERS:
            continue
        begins.append(place)
        if role == "assistant":
            callers.update((call.get("id"), place) for call in message.get("tool_calls") or ())
    while len(begins) > 1 and _is_of_the_step_before(messages, begins[-1]):
        begins.pop()
    return begins


def _is_of_the_step_before(messages: list[Message], place: int) -> bool:
    """Whether the last step, at ``place``, says nothing by itself."""
    last = messages[place]
    if last["role"] in _HEAD:
        return not _is_users(messages, place)
    return last["role"] == "assistant" and not last.get("tool_calls") and place == len(messages) - 1


def _cuts(messages: list[Message], steps: list[int]) -> list[int]:
    """Those of ``steps`` where a turn begins, or that are of the newest turn; and the first."""
    cuts: list[int] = []
    is_newest = True
    for place in reversed(steps):
        begins_turn = _is_users(messages, place)
        if is_newest or begins_turn:
            cuts.append(place)
        is_newest = is_newest and not begins_turn
    if cuts[-1] != steps[0]:
        cuts.append(steps[0])
    return cuts[::-1]


def _is_users(messages: list[Message], place: int) -> bool:
    """Whether it is a user's message, or a system's before one."""
    while messages[place]["role"] in _HEAD and place < len(messages) - 1:
        place += 1
    return bool(messages[place]["role"] == "user")


def text_chars(messages: Iterable[Message]) -> int:
    """How many characters of text they have."""
    return sum(len(text) for message in messages for text in _texts(message["content"]))


def shortened(messages: list[Message], chars: int) -> list[Message]:
    """Their first ``chars`` characters, or a few less: those of the last message that has any of them left."""
    kept: list[Message] = []
    for message in messages:
        own = text_chars([message])
        if own > chars:
            if content := _beginning(message["content"], chars):
                kept.append({**message, "content": content})
            break
        kept.append(message)
        chars -= own
    return kept


def _texts(content: Any) -> list[str]:
    if type(content) is str:
        return [content]
    return [part["text"] for part in content or () if part["type"] == "text"]


def _beginning(content: Any, chars: int) -> Any:
    """Of a text, or of parts up to the text part where the characters end; what is empty if there is none."""
    if type(content) is str:
        return content[: whole_until(content, chars)]
    kept: list[dict[str, Any]] = []
    for part in content:
        text = part["text"] if part["type"] == "text" else ""
        if len(text) > chars:
            if text := text[: whole_until(text, chars)]:
                kept.append({**part, "text": text})
            break
        kept.append(part)
        chars -= len(text)
    return kept
