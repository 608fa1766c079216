"""An await that begins at once, and shows whether it is a wait at all."""

from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Begun(Generic[Result]):
    """Runs an awaitable, in the task that is running, up to where it first waits; await this for the rest, once.

    What is there already needs no time limit, which costs more than to receive it does.
    """

    __slots__ = ("_first_wait", "_steps", "is_done", "result")

    result: Result  # once it is done

    def __init__(self, awaitable: Awaitable[Result]) -> None:
        """Raises what the awaitable raises before it waits."""
        self._steps = awaitable.__await__()
        try:
            self._first_wait = next(self._steps)
            self.is_done = False
        except StopIteration as end:
            self.result = end.value
            self.is_done = True

    def __await__(self) -> Generator[Any, Any, Result]:
        if self.is_done:
            return self.result
        # ``yield from`` cannot pick up a generator at a wait that it has begun already, so this does what that does.
        wait = self._first_wait
        while True:
            try:
                value = yield wait
            except BaseException as error:  # noqa: BLE001 - a cancellation is for what is awaited
                go_on = partial(self._steps.throw, error)
            else:
                go_on = partial(self._steps.send, value)
            try:
                wait = go_on()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
