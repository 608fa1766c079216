"""Several engines on the same cores, or the same GPU, compute in turn: step by step, whoever asked first.

Each engine's step is made to use all of the machine. Two at once would only wait for each other: their threads spin at
the barriers between layers while the other's have the cores.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is granted in the order in which it was asked for; for threads."""

    def __init__(self) -> None:
        self._changed = threading.Lock()
        self._line: deque[threading.Lock] = deque()  # the first has the turn

    def __len__(self) -> int:
        """Who has the turn and who waits for it."""
        return len(self._line)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and have it inside. Cost where nobody else is: about a microsecond."""
        mine = threading.Lock()
        mine.acquire()
        with self._changed:
            self._line.append(mine)
            if self._line[0] is mine:
                mine.release()
        mine.acquire()
        try:
            yield
        finally:
            with self._changed:
                self._line.popleft()
                if self._line:
                    self._line[0].release()
