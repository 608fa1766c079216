"""What a tool parser finds in an answer, piece by piece, in the order in which it was said."""

from typing import NamedTuple


class TextDelta(NamedTuple):
    """Text of the answer itself; never empty."""

    text: str


class CallBegan(NamedTuple):
    """The ``place``-th call of the answer, from 0, is of the tool ``name``; ``id`` is new."""

    place: int
    id: str
    name: str


class CallArguments(NamedTuple):
    """More of the arguments of the call at ``place``: all its pieces put together are JSON as the model wrote it."""

    place: int
    text: str


Delta = TextDelta | CallBegan | CallArguments
