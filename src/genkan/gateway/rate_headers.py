"""OpenAI's six ``x-ratelimit-*`` headers. Pure.

They tell of the client's own limits, its key's and its tenant's, and of those the one of which the least is left;
what others share is nobody's to see. Source: OpenAI's "Rate limits" guide; durations are written as Go writes them.
"""

from collections.abc import Sequence

from genkan.store.accounts import Line, LineState, Plan, Unit

Header = tuple[bytes, bytes]
_NAMES = {
    unit: tuple(f"x-ratelimit-{what}-{name}".encode() for what in ("limit", "remaining", "reset"))
    for unit, name in ((Unit.REQUESTS, "requests"), (Unit.TOKENS, "tokens"))
}


def rate_headers(plan: Plan, states: Sequence[LineState]) -> list[Header]:
    """The headers of an answer. ``states`` without one for each line tell nothing. Cost: about 3 µs."""
    if len(states) != len(plan):
        return []
    tightest: dict[Unit, tuple[Line, LineState]] = {}
    for line, state in zip(plan, states, strict=True):
        if line.kind in ("bucket", "window") and line.is_own:
            known = tightest.get(line.unit)
            if known is None or state.remaining < known[1].remaining:
                tightest[line.unit] = line, state
    headers: list[Header] = []
    for unit, (line, state) in tightest.items():
        limit, remaining, reset = _NAMES[unit]
        headers += [
            (limit, b"%d" % (line.burst if line.kind == "bucket" else line.limit)),
            (remaining, b"%d" % max(state.remaining, 0)),
            (reset, duration(state.reset_s).encode()),
        ]
    return headers


def duration(seconds: float) -> str:
    """As Go writes a duration, to the millisecond: ``12ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    ms = round(1000 * max(seconds, 0.0))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
