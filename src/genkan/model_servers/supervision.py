"""When a model server is started, asked, killed and started again. Pure: the clock is passed in.

Theory. Its life is a machine of five stages::

    waiting ──▶ starting ──▶ well ──▶ dying ──▶ waiting …       stopping ──▶ ended

A server that is starting is asked for its health until it answers once, at most ``start_timeout_s``: weights take
minutes. Then ``unhealthy_after`` bad answers in a row are a wedge, and it is killed: a process that does not answer
does not end by itself either. Whatever it died of, it is started again after a wait that doubles with each death, and
is short again after a life that was well for longer than the longest wait. Only ``stop`` ends that.
"""

import math
from enum import StrEnum

from genkan.config import ServeConfig

_LOADING_EVERY_S = 1.0


class Stage(StrEnum):
    """Where in its life a server is."""

    WAITING = "waiting"
    STARTING = "starting"
    WELL = "well"
    DYING = "dying"  # it was killed, and is not gone yet
    STOPPING = "stopping"  # it was told to end
    ENDED = "ended"


class Action(StrEnum):
    """What is to be done with the process, now."""

    START = "start"
    ASK = "ask"  # for its health; `answered` is to follow
    TERMINATE = "terminate"
    KILL = "kill"


class Supervision:
    """One server's. Tell it what happens, do what ``act`` says, and call that again at ``due_s`` or after an event."""

    def __init__(self, policy: ServeConfig) -> None:
        self._policy = policy
        self.stage = Stage.WAITING
        self.starts = 0
        self.why = ""  # it was killed
        self._due_s = -math.inf  # of the stage: to start, to have started, or to be killed
        self._ask_s = math.inf
        self._well_since_s = math.inf
        self._bad_answers = 0
        self._deaths = 0  # in a row

    @property
    def due_s(self) -> float:
        """When ``act`` has something to do next, if nothing happens before."""
        return min(self._due_s, self._ask_s)

    def act(self, now_s: float) -> Action | None:
        """The next thing to do; call again until it is None."""
        if self.stage is Stage.WAITING and now_s >= self._due_s:
            return self._start(now_s)
        if self.stage is Stage.STARTING and now_s >= self._due_s:
            return self._kill(f"not well within {self._policy.start_timeout_s:g} s")
        if self.stage is Stage.STOPPING and now_s >= self._due_s:
            self._due_s = math.inf
            return Action.KILL
        if self.stage is Stage.WELL and self._bad_answers >= self._policy.unhealthy_after:
            return self._kill(f"{self._bad_answers} bad answers to GET /health in a row")
        if now_s >= self._ask_s:
            self._ask_s = math.inf
            return Action.ASK
        return None

    def answered(self, now_s: float, *, well: bool) -> None:
        """What became of an ASK."""
        if self.stage not in (Stage.STARTING, Stage.WELL):
            return
        self._bad_answers = 0 if well else self._bad_answers + 1
        if well and self.stage is Stage.STARTING:
            self.stage, self._due_s, self._well_since_s = Stage.WELL, math.inf, now_s
        every_s = self._policy.health_interval_s
        self._ask_s = now_s + (every_s if self.stage is Stage.WELL else min(every_s, _LOADING_EVERY_S))

    def died(self, now_s: float) -> None:
        """The process is gone, for whatever reason; also when it could not be made."""
        was_steady = now_s - self._well_since_s > self._policy.max_backoff_s
        self._ask_s, self._well_since_s, self._bad_answers = math.inf, math.inf, 0
        if self.stage in (Stage.STOPPING, Stage.ENDED):
            self.stage, self._due_s = Stage.ENDED, math.inf
            return
        self._deaths = 0 if was_steady else self._deaths
        wait_s = self._policy.backoff_s * 2.0 ** min(self._deaths, 30)
        self._deaths += 1
        self.stage, self._due_s = Stage.WAITING, now_s + min(wait_s, self._policy.max_backoff_s)

    def stop(self, now_s: float) -> Action | None:
        """It is wanted no more: what to do at once. A second call asks for nothing."""
        if self.stage is Stage.WAITING:
            self.stage, self._due_s = Stage.ENDED, math.inf
        if self.stage in (Stage.STOPPING, Stage.ENDED):
            return None
        was_dying = self.stage is Stage.DYING
        self.stage, self._ask_s = Stage.STOPPING, math.inf
        self._due_s = now_s + self._policy.stop_timeout_s
        return None if was_dying else Action.TERMINATE

    def _start(self, now_s: float) -> Action:
        self.starts += 1
        self.why = ""
        self.stage, self._due_s = Stage.STARTING, now_s + self._policy.start_timeout_s
        self._ask_s = now_s + min(self._policy.health_interval_s, _LOADING_EVERY_S)
        return Action.START

    def _kill(self, why: str) -> Action:
        self.why = why
        self.stage, self._due_s, self._ask_s = Stage.DYING, math.inf, math.inf
        return Action.KILL
