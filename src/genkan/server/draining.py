"""``genkan drain --wait``: when a server has nothing left to do."""

from collections.abc import Callable
from dataclasses import dataclass

from genkan.server.drain import DrainPage, Report

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Wait:
    """How long it took, and what is left."""

    waited_s: float
    requests: int
    is_idle: bool  # and whoever sends requests has had the time to notice


def wait_until_idle(
    page: DrainPage, *, notice_s: float, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Wait:
    """Return when every worker has seen the flag, ``notice_s`` have passed since it was set, and nothing is under way.

    ``clock`` is Unix time in seconds. Returns after ``wait_s`` in any case. Seen twice in a row, as a report may be
    read while it is written, and a probe of a balancer comes and goes.
    """
    began_s = clock()
    was_idle = False
    while True:
        now_s = clock()
        reports = page.reports()
        has_noticed = now_s - page.since_unix_s >= notice_s
        is_idle = has_noticed and all(_is_idle(report) for report in reports)
        if (is_idle and was_idle) or now_s - began_s >= wait_s:
            return Wait(now_s - began_s, sum(report.requests for report in reports), is_idle)
        was_idle = is_idle
        sleep(min(POLL_S, max(0.0, wait_s - (now_s - began_s))))


def _is_idle(report: Report) -> bool:
    return report.is_draining and report.requests == 0
