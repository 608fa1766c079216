"""The line on a terminal."""

import io

from hand_clock import HandClock

from genkan.bench.client.outcome import Outcome, Seen
from genkan.bench.client.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ended(latency_s: float = 0.1, error: str | None = None) -> Outcome:
    return Outcome("all", 0.0, 0.0, Seen(ended_s=latency_s, error=error))


def test_it_tells_how_far_it_is_at_most_five_times_a_second() -> None:
    clock, terminal = HandClock(), Terminal()
    progress = Progress(clock, requests=100, file=terminal)
    for _ in range(50):
        clock.advance(0.1)
        progress.take(ended())
    lines = terminal.getvalue().split("\r")[1:]
    assert 20 <= len(lines) <= 26
    assert lines[-1].startswith("[############............]") or "[###########" in lines[-1]
    assert "median 100 ms, 0 errors" in lines[-1]
    progress.close()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_time_is_the_measure_where_requests_are_not() -> None:
    clock = HandClock()
    progress = Progress(clock, seconds=10.0, file=Terminal())
    began_s = clock.monotonic()
    clock.advance(5.0)
    progress.take(ended(error="status 500"))
    line = progress.line(began_s + 5.0)
    assert line == "[############............] 1 ended, 0.2/s, median -, 1 errors"


def test_elsewhere_there_is_no_line() -> None:
    file = io.StringIO()
    progress = Progress(HandClock(), requests=1, file=file)
    progress.take(ended())
    progress.close()
    assert file.getvalue() == ""
