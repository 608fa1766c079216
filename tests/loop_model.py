"""An event loop in virtual time that answers requests as the gateway does: turns of work, with waits between them.

Arrivals are as regular as can be. A turn and a refusal cost about what they cost the gateway.
"""

import heapq
from dataclasses import dataclass, field

from genkan.gateway.overload import Overload
from genkan.server.loop_watch import BUSY_EVERY_S

REFUSAL_S = 25e-6


@dataclass(slots=True)
class Load:
    """What came of a simulated run; latencies in seconds from the arrival."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    most_under_way: int = 0


@dataclass(slots=True)
class LoopModel:
    """A worker. ``turns_s``: the work of each turn of a request; ``waits_s``: for others, between two of them."""

    overload: Overload
    turns_s: tuple[float, ...] = (120e-6, 110e-6, 110e-6)
    waits_s: tuple[float, ...] = (0.0005, 0.001)

    @property
    def capacity(self) -> float:
        """Requests a second."""
        return 1 / sum(self.turns_s)

    def run(self, rate: float, seconds: float) -> Load:
        """Let requests come at ``rate`` for so long, and say what became of them."""
        load = Load()
        now_s, look_s = 0.0, BUSY_EVERY_S
        arrived = under_way = 0
        waiting: list[tuple[float, int, float]] = []  # ready at, its next turn, came at
        while now_s < seconds:
            if now_s >= look_s:
                self.overload.looked(now_s, now_s - look_s)
                look_s = now_s + BUSY_EVERY_S
            turns: list[tuple[int, float]] = []
            turn_began_s = now_s
            while arrived / rate <= turn_began_s:
                came_s = arrived / rate
                arrived += 1
                if self.overload.sheds and not self.overload.admits():
                    now_s += REFUSAL_S
                    load.refused_s.append(now_s - came_s)
                else:
                    under_way += 1
                    turns.append((0, came_s))
            while waiting and waiting[0][0] <= turn_began_s:
                _, turn, came_s = heapq.heappop(waiting)
                turns.append((turn, came_s))
            load.most_under_way = max(load.most_under_way, under_way)
            for turn, came_s in turns:
                now_s += self.turns_s[turn]
                if turn < len(self.waits_s):
                    heapq.heappush(waiting, (now_s + self.waits_s[turn], turn + 1, came_s))
                else:
                    under_way -= 1
                    load.answered_s.append(now_s - came_s)
                    self.overload.ended()
            if now_s == turn_began_s:
                now_s = min(arrived / rate, waiting[0][0] if waiting else seconds, look_s)
        return load
