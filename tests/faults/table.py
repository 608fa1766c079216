"""Every fault by its name, which is the name of the model that shows it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from faults.exchange import Exchange

Behaviour = Callable[[Exchange], Awaitable[None]]
Face = Literal["stream", "whole"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What one model does, and in which way of asking it does so; asked the other way, it is healthy."""

    name: str
    #: One sentence or two for people.
    what: str
    behave: Behaviour
    only: Face | None = None
    #: The upstream is odd, not broken: the whole answer is there to be had from it.
    harmless: bool = False

    async def serve(self, exchange: Exchange) -> None:
        asked: Face = "stream" if exchange.stream else "whole"
        if self.only in (None, asked):
            await self.behave(exchange)
        else:
            await exchange.healthy()


_TABLE: dict[str, Fault] = {}


def fault(name: str, *, only: Face | None = None, harmless: bool = False) -> Callable[[Behaviour], Behaviour]:
    """Enter a behaviour into the table; its docstring is what the table says of it."""

    def enter(behave: Behaviour) -> Behaviour:
        what = " ".join((behave.__doc__ or "").split())
        assert what, f"{name} says nothing of itself"
        enter_fault(Fault(name, what, behave, only, harmless))
        return behave

    return enter


def enter_fault(entry: Fault) -> None:
    assert entry.name not in _TABLE, f"{entry.name} is there twice"
    _TABLE[entry.name] = entry


def table() -> dict[str, Fault]:
    """All that were entered: whole once ``faults.catalogue`` is imported."""
    return _TABLE
