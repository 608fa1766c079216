"""What one chunk of a stream says, piece by piece, and where in the chunk each stands. No I/O.

Of each choice everything that has a value is looked at, as an answer can be gone on with only if all of it is known.
Pieces come in the order in which models say them, whatever order the object has: thoughts, text, a refusal, calls.
"""

from typing import Any, NamedTuple

#: Where a piece belongs: ``("text",)``, ``("reasoning",)``, ``("refusal",)``, ``("function_call", "arguments")``, or of
#: the tool call with index 0 ``("tool", 0, "id")``, ``("tool", 0, "function", "arguments")`` and the like.
Track = tuple[str | int, ...]

TEXT: Track = ("text",)
REASONING: Track = ("reasoning",)
REASONING_NAMES = ("reasoning_content", "reasoning")  # where both are, they are the same text twice
_REFUSAL: Track = ("refusal",)
_BEGUN = "*"

#: Fields of a choice that are no part of what is said, and those that are read here.
OF_A_CHOICE = frozenset(
    {
        "content_filter_offsets", "content_filter_results", "delta", "finish_reason", "index", "logprobs",
        "matched_stop", "native_finish_reason", "stop_reason", "text", "token_ids",
    }
)  # fmt: skip
_OF_A_DELTA = frozenset({"content", "function_call", "refusal", "role", "tool_calls", *REASONING_NAMES})
_OF_A_CALL = frozenset({"custom", "function", "id", "index", "type"})


class Piece(NamedTuple):
    """Some text of one track. ``places`` are the objects of the chunk in which it stands, each with its key there."""

    track: Track
    text: str  # not empty
    places: tuple[tuple[dict[str, Any], str], ...]


class UnknownPiece(Exception):
    """A chunk says something that is no piece of a kind known here."""


def pieces_of(choice: dict[str, Any], calls: set[int]) -> list[Piece]:
    """The pieces in ``choice``, of a chunk that an AnswerStream has passed. Raises UnknownPiece.

    ``calls`` are the tool calls whose id has come already; those whose id is in this choice are added. Each id is a
    piece of one character: that it came counts, and not what it is.
    """
    if not choice.keys() <= OF_A_CHOICE:
        _refuse_others(choice, OF_A_CHOICE)
    delta = choice.get("delta")
    if delta is None:
        return _piece(TEXT, choice, "text")
    if choice.get("text"):
        raise UnknownPiece
    if len(delta) == 1 and type(text := delta.get("content")) is str:  # nearly all are so
        return [Piece(TEXT, text, ((delta, "content"),))] if text else []
    if not delta.keys() <= _OF_A_DELTA:
        _refuse_others(delta, _OF_A_DELTA)
    pieces = _reasoning(delta) + _piece(TEXT, delta, "content") + _piece(_REFUSAL, delta, "refusal")
    if call := delta.get("function_call"):
        pieces += _fields(("function_call",), call)
    if several := delta.get("tool_calls"):
        if type(several) is not list:
            raise UnknownPiece
        for call in several:
            pieces += _call(call, calls)
    return pieces


def _refuse_others(fields: dict[str, Any], known: frozenset[str]) -> None:
    for name in fields.keys() - known:
        if fields[name]:
            raise UnknownPiece


def _piece(track: Track, holder: dict[str, Any], key: str) -> list[Piece]:
    text = holder.get(key)
    if not text:
        return []
    if type(text) is not str:
        raise UnknownPiece
    return [Piece(track, text, ((holder, key),))]


def _reasoning(delta: dict[str, Any]) -> list[Piece]:
    pieces = [piece for name in REASONING_NAMES for piece in _piece(REASONING, delta, name)]
    if len(pieces) < 2:
        return pieces
    one, other = pieces
    if one.text != other.text:
        raise UnknownPiece
    return [Piece(REASONING, one.text, one.places + other.places)]


def _call(call: Any, calls: set[int]) -> list[Piece]:
    if type(call) is not dict or type(index := call.get("index")) is not int:
        raise UnknownPiece
    if not call.keys() <= _OF_A_CALL:
        _refuse_others(call, _OF_A_CALL)
    pieces = []
    if call.get("id") and index not in calls:
        calls.add(index)
        pieces.append(Piece(("tool", index, "id"), _BEGUN, ()))
    for kind in ("function", "custom"):
        if function := call.get(kind):
            pieces += _fields(("tool", index, kind), function)
    return pieces


def _fields(track: Track, function: Any) -> list[Piece]:
    """The name of what is called comes before what it is called with."""
    if type(function) is not dict:
        raise UnknownPiece
    names = sorted(function, key="name".__ne__)
    return [piece for name in names for piece in _piece((*track, name), function, name)]
