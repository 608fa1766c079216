"""What compiling grammars says of itself, to whoever counts."""

from typing import Literal, Protocol

#: Of one request: found as it was compiled before; compiled for it, or for another at the same time; too large, too
#: complex or wrong; given up for want of time; not begun, as too many others are being compiled.
GrammarResult = Literal["cached", "compiled", "refused", "timed_out", "overloaded"]


class GrammarObserver(Protocol):
    """Is told of everything, in the thread where it happens."""

    def grammar_asked(self, result: GrammarResult) -> None:
        """A request asked for a grammar, and this became of it. Told on the event loop."""

    def grammar_compiled(self, seconds: float) -> None:
        """A compilation ended, well or not, after so long. Told in the thread that did it."""


class NobodyWatches:
    """A GrammarObserver that ignores it all."""

    def grammar_asked(self, result: GrammarResult) -> None:
        pass

    def grammar_compiled(self, seconds: float) -> None:
        pass
