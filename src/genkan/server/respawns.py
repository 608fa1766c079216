"""How soon a worker that died is replaced: at once, unless workers keep dying."""

from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0
#: So many within a window are replaced as they are found.
PROMPT = 3
#: After that, as often as BentoML does it.
SLOW_S = 10.0


class RespawnPace:
    """Whether it is time to replace the dead. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._replaced: deque[float] = deque()

    def is_due(self, dead: int) -> bool:
        """Asked when ``dead`` are found, which may be none; when it says so they are replaced."""
        now_s = self._clock()
        while self._replaced and now_s - self._replaced[0] > WINDOW_S:
            self._replaced.popleft()
        if dead and len(self._replaced) >= PROMPT and now_s - self._replaced[-1] < SLOW_S:
            return False
        self._replaced.extend([now_s] * dead)
        return True
