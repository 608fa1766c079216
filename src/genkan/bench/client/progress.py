"""A line on a terminal that says how far a run is. Elsewhere there is none."""

import sys
from collections import deque
from typing import TextIO

from genkan.bench.client.outcome import Outcome
from genkan.bench.timing import percentile
from genkan.clock import Clock

_EVERY_S = 0.2
_WIDTH = 24
_RECENT = 200  # latencies that the median is of


class Progress:
    """Tells ``file`` of outcomes, at most five times a second. One of ``requests`` and ``seconds`` says what is all."""

    def __init__(
        self, clock: Clock, *, requests: int | None = None, seconds: float | None = None, file: TextIO | None = None
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._seconds = seconds
        self._file = sys.stderr if file is None else file
        self._is_shown = self._file.isatty()
        self._began_s = clock.monotonic()
        self._shown_s = 0.0
        self._ended = self._errors = 0
        self._recent_s: deque[float] = deque(maxlen=_RECENT)

    def take(self, outcome: Outcome) -> None:
        """One more ended."""
        if not self._is_shown:
            return
        self._ended += 1
        if outcome.seen.error is None:
            self._recent_s.append(outcome.latency_s)
        else:
            self._errors += 1
        now_s = self._clock.monotonic()
        if now_s - self._shown_s >= _EVERY_S:
            self._shown_s = now_s
            self._file.write(f"\r{self.line(now_s)}\x1b[K")
            self._file.flush()

    def line(self, now_s: float) -> str:
        """What is shown."""
        elapsed_s = max(now_s - self._began_s, 1e-9)
        share = self._ended / self._requests if self._requests else elapsed_s / (self._seconds or elapsed_s)
        filled = round(_WIDTH * min(share, 1.0))
        median = f"{1e3 * percentile(self._recent_s, 50):,.0f} ms" if self._recent_s else "-"
        bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}]"
        return (
            f"{bar} {self._ended:,} ended, {self._ended / elapsed_s:,.1f}/s, median {median}, {self._errors:,} errors"
        )

    def close(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
