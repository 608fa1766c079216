"""A circuit in any order of calls, against a model that keeps all attempts and looks at all of them each time.

The model has no counters, no generations and no fading sums: an *era* is a list of attempts between two openings or
closings, and everything is asked of those lists.
"""

import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from genkan.config import BreakerConfig
from genkan.gateway.breaker import FORCED_EVERY_S, Attempt, Breaker, MemoryCircuits, State

# A share that no sum of whole attempts meets exactly: rounding must not decide.
POLICY = BreakerConfig(
    consecutive_failures=4, alone_failures=2, failure_ratio=0.4321, min_attempts=4, window_s=8.0, open_s=4.0
)
# Whole numbers of 64ths, for which sums and differences are exact.
PAUSES_S = st.one_of(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), st.integers(0, 1280).map(lambda n: n / 64))
ENDS = st.sampled_from(["succeeded", "failed", "failed", "ignored"])


@dataclass
class Known:
    """What the model knows of one attempt."""

    attempt: Attempt
    begun_s: float
    ended_s: float | None = None
    end: str = ""


@dataclass
class Era:
    """The time between two changes between closed and not closed, or two openings."""

    open_until_s: float | None = None  # None: closed
    begun: list[Known] = field(default_factory=list)
    ended: list[Known] = field(default_factory=list)  # of those that began in it, in the order of their ends

    def probe(self, now_s: float) -> Known | None:
        """The attempt that keeps others from probing."""
        if self.open_until_s is None or not self.begun:
            return None
        last = self.begun[-1]
        return last if last.ended_s is None and now_s < last.begun_s + POLICY.open_s else None

    def failures_in_a_row(self) -> int:
        told = [known.end == "failed" for known in self.ended if known.end != "ignored"]
        return len(told) if all(told) else told[::-1].index(False)

    def recent(self, now_s: float, *ends: str) -> float:
        """The weight of attempts that ended so."""
        ages_s = [now_s - (known.ended_s or 0.0) for known in self.ended if known.end in ends]
        return sum(math.exp(-age_s / POLICY.window_s) for age_s in ages_s)


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.told: list[tuple[State, State]] = []
        self.breaker = Breaker("target", POLICY, MemoryCircuits(), self.changed)
        self.under_way: list[tuple[Era, Known]] = []
        self.over: list[Known] = []
        self.eras = [Era()]

    def changed(self, deployment: str, before: State, after: State) -> None:
        assert deployment == "target"
        assert before == (self.told[-1][1] if self.told else "closed")
        self.told.append((before, after))

    # The model

    @property
    def era(self) -> Era:
        return self.eras[-1]

    def state(self) -> State:
        if self.era.open_until_s is None:
            return "closed"
        return "open" if self.now_s < self.era.open_until_s and not self.era.probe(self.now_s) else "half_open"

    def admits(self, forced: bool) -> bool:
        if self.era.open_until_s is None:
            return True
        probe = self.era.probe(self.now_s)
        if forced:
            return probe is None or self.now_s >= probe.begun_s + FORCED_EVERY_S
        return probe is None and self.now_s >= self.era.open_until_s

    def is_too_much(self) -> bool:
        needed = min(POLICY.consecutive_failures, POLICY.alone_failures + len(self.under_way))
        attempts = self.era.recent(self.now_s, "succeeded", "failed")
        failures = self.era.recent(self.now_s, "failed")
        is_share = attempts >= POLICY.min_attempts and failures >= POLICY.failure_ratio * attempts
        return self.era.failures_in_a_row() >= needed or is_share

    def opened(self, known: Known) -> Era:
        return Era(max(known.begun_s + POLICY.open_s, self.now_s + POLICY.open_s / 2))

    def take_end(self, era: Era, known: Known) -> None:
        """What the end of ``known`` makes of the era it began in, if that is still the present one."""
        era.ended.append(known)
        if era is not self.era:
            return
        if era.open_until_s is None:
            if known.end == "failed" and self.is_too_much():
                self.eras.append(self.opened(known))
        elif known.end == "succeeded":
            self.eras.append(Era())
        elif known.end == "failed" and known is era.begun[-1]:
            self.eras.append(self.opened(known))

    # The calls

    @rule(pause_s=PAUSES_S)
    def wait(self, pause_s: float) -> None:
        self.now_s += pause_s

    @rule(forced=st.booleans())
    def begin(self, forced: bool) -> None:
        expected = self.admits(forced)
        attempt = self.breaker.begin(self.now_s, forced=forced)
        assert (attempt is not None) == expected
        if attempt is not None:
            known = Known(attempt, self.now_s)
            self.era.begun.append(known)
            self.under_way.append((self.era, known))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), end=ENDS)
    def end(self, which: int, end: str) -> None:
        era, known = self.under_way.pop(which % len(self.under_way))
        known.end, known.ended_s = end, self.now_s
        before = self.state()
        self.take_end(era, known)
        getattr(known.attempt, end)(self.now_s)
        self.over.append(known)
        if self.state() == "closed" != before:
            assert self.told[-1][1] == "closed"

    @precondition(lambda self: self.over)
    @rule(which=st.integers(0, 100), end=ENDS)
    def end_again(self, which: int, end: str) -> None:
        getattr(self.over[which % len(self.over)].attempt, end)(self.now_s)

    # What holds at any time

    @invariant()
    def it_says_what_the_model_says(self) -> None:
        assert self.breaker.state(self.now_s) == self.state()
        assert self.breaker.admits(self.now_s) == self.admits(forced=False)

    @invariant()
    def it_admits_when_it_said(self) -> None:
        reopens_in_s = self.breaker.reopens_in_s(self.now_s)
        assert (reopens_in_s == 0) == self.breaker.admits(self.now_s)
        assert 0 <= reopens_in_s <= POLICY.open_s
        assert self.breaker.admits(self.now_s + reopens_in_s)

    @invariant()
    def every_opening_and_closing_was_told(self) -> None:
        changes = [after for _, after in self.told if after != "half_open"]
        openings = sum(era.open_until_s is not None for era in self.eras)
        closings = len(self.eras) - 1 - openings
        # A forced attempt that says nothing leads back to open, without a new opening.
        assert changes.count("open") >= openings
        assert changes.count("closed") == closings


BreakerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
