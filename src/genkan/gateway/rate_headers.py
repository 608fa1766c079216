"""OpenAI's six ``x-ratelimit-*`` headers. Pure.

They tell of the client's own limits, its key's and its tenant's, and of those the one of which the least is left;
what others share is nobody's to see. Source: OpenAI's "Rate limits" guide; durations are written as Go writes them.
"""

from collections.abc import Sequence

from genkan.store.accounts import LineState, Plan, Unit

Header = tuple[bytes, bytes]
#: For each unit the names of its headers, and the lines to choose from: their places, and their limits.
_Shown = list[tuple[tuple[bytes, ...], list[tuple[int, bytes]]]]
_MOST_KEPT = 4096
_kept: dict[int, tuple[Plan, _Shown]] = {}
_NAMES = {
    unit: tuple(f"x-ratelimit-{what}-{name}".encode() for what in ("limit", "remaining", "reset"))
    for unit, name in ((Unit.REQUESTS, "requests"), (Unit.TOKENS, "tokens"))
}


def rate_headers(plan: Plan, states: Sequence[LineState]) -> list[Header]:
    """The headers of an answer. ``states`` without one for each line tell nothing. Cost: about 3 µs."""
    if len(states) != len(plan):
        return []
    headers: list[Header] = []
    for (limit, remaining, reset), shown in _shown(plan):
        place, most = shown[0] if len(shown) == 1 else min(shown, key=lambda one: states[one[0]].remaining)
        state = states[place]
        headers += [
            (limit, most),
            (remaining, b"%d" % max(state.remaining, 0)),
            (reset, duration(state.reset_s).encode()),
        ]
    return headers


def _shown(plan: Plan) -> _Shown:
    known = _kept.get(id(plan))
    if known is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        known = _kept[id(plan)] = plan, _lines_of(plan)  # it keeps the plan alive, and so its id its own
    return known[1]


def _lines_of(plan: Plan) -> _Shown:
    lines: dict[Unit, list[tuple[int, bytes]]] = {}
    for place, line in enumerate(plan):
        if line.kind in ("bucket", "window") and line.is_own:
            most = line.burst if line.kind == "bucket" else line.limit
            lines.setdefault(line.unit, []).append((place, b"%d" % most))
    return [(_NAMES[unit], shown) for unit, shown in lines.items()]


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
