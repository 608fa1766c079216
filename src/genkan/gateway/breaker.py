"""A circuit breaker: a deployment that fails is left alone, and soon found out when it works again. Pure.

Theory. A circuit is *closed* as long as its deployment is asked, *open* while it is left alone, and *half open* when
one attempt, the probe, may find out whether it works again. Two triggers open it, both looked at when an attempt fails:

* failures in a row. Five, whatever else runs; and two, plus one for every other attempt that is in flight, if that is
  fewer: who asks alone should not pay for five failures, while among many attempts two in a row are chance;
* a share of failures among recent attempts. Attempts and failures are two sums whose terms fade as exp(-age / window),
  so they cost O(1) in time and memory.

A probe that succeeds closes the circuit and its counts are forgotten; one that fails opens it again, for as long as
before. ``open_s`` runs from the *beginning* of the attempt that failed, as that is the latest moment of which it is
known that asking was vain: so the deployment is asked again at most ``open_s`` after it recovered, however long a
failure takes to show. At least half of ``open_s`` runs from the failure's end, or slow failures would leave no pause.

An attempt that began before the circuit last opened or closed tells of another time, and changes nothing but the
number in flight. A probe that does not report for ``open_s`` makes room for another; if it reports after all, its
success still closes the circuit (else probes slower than ``open_s`` never could) and its failure counts no more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from genkan.config import BreakerConfig

FORCED_EVERY_S = 1.0

State = Literal["closed", "open", "half_open"]
OnChange = Callable[[str, State, State], None]  # deployment, old state, new state


@dataclass(slots=True)
class Circuit:
    """All that is known of one deployment: plain numbers, so that a store can share them. Times are monotonic.

    ``in_flight`` alone is about the process that holds it, and is not to be shared. An attempt that never ends makes it
    too large for good; all that does is raise ``alone_failures`` up to ``consecutive_failures``.
    """

    generation: int = 0  # openings and closings so far
    consecutive: int = 0  # failures since the last success
    attempts: float = 0.0  # both as of counted_at_s; they fade from then on
    failures: float = 0.0
    counted_at_s: float = 0.0
    is_open: bool = False  # or half open, which is a matter of time
    open_until_s: float = 0.0
    probes: int = 0  # begun so far; the number of the latest
    probe_until_s: float = 0.0  # the latest still counts until then; 0 when it has ended
    in_flight: int = 0


class CircuitStore(Protocol):
    """Where circuits are kept. It answers from memory: a store that shares circuits synchronises behind these two."""

    def load(self, deployment: str) -> Circuit:
        """The circuit of ``deployment``, a new one if there is none: always the same object, the store's own.

        May be changed freely, then saved; who changes ``in_flight`` alone need not save it.
        """

    def save(self, deployment: str, circuit: Circuit) -> None:
        """Keep ``circuit``, as just loaded and changed."""


class MemoryCircuits:
    """Circuits of this process alone."""

    def __init__(self) -> None:
        self._circuits: dict[str, Circuit] = {}

    def load(self, deployment: str) -> Circuit:
        try:
            return self._circuits[deployment]
        except KeyError:
            circuit = self._circuits[deployment] = Circuit()
            return circuit

    def save(self, deployment: str, circuit: Circuit) -> None:
        self._circuits[deployment] = circuit


class Attempt:
    """One call of the deployment that is under way. One of three ends is told, once; what is told later is ignored."""

    __slots__ = ("_breaker", "_is_over", "begun_s", "generation", "probe")

    def __init__(self, breaker: "Breaker", begun_s: float, generation: int, probe: int) -> None:
        """``generation`` is its circuit's; ``probe`` is its number among the probes, 0 for any other attempt."""
        self._breaker = breaker
        self._is_over = False
        self.begun_s = begun_s
        self.generation = generation
        self.probe = probe

    def succeeded(self, now_s: float) -> None:
        """The deployment works."""
        if not self._is_over:
            self._is_over = True
            self._breaker._succeeded(self, now_s)

    def failed(self, now_s: float) -> None:
        """The deployment failed."""
        if not self._is_over:
            self._is_over = True
            self._breaker._failed(self, now_s)

    def ignored(self, now_s: float) -> None:
        """It says nothing of the deployment: the client left, or was at fault itself. Another may probe."""
        if not self._is_over:
            self._is_over = True
            self._breaker._ignored(self, now_s)


class Breaker:
    """Who may ask one deployment, and what came of it. Cost: begin and succeed, about 1 µs together."""

    def __init__(
        self, deployment: str, policy: BreakerConfig, store: CircuitStore, on_change: OnChange | None = None
    ) -> None:
        """``on_change`` is told of every change, once what changed is saved.

        What time alone changed, or another process that shares the store, it is told of at the next ``begin``.
        """
        self._deployment = deployment
        self._policy = policy
        self._store = store
        self._on_change = on_change
        self._told: State = "closed"

    def state(self, now_s: float) -> State:
        """It is half open from the end of ``open_s`` on, and while a forced attempt probes."""
        circuit = self._store.load(self._deployment)
        if not circuit.is_open:
            return "closed"
        return "open" if circuit.probe_until_s <= now_s < circuit.open_until_s else "half_open"

    def admits(self, now_s: float) -> bool:
        """Whether ``begin`` would give an attempt. Changes nothing."""
        return self.reopens_in_s(now_s) == 0

    def reopens_in_s(self, now_s: float) -> float:
        """Seconds until an attempt is admitted at the latest; 0 when one is now."""
        circuit = self._store.load(self._deployment)
        return max(circuit.open_until_s - now_s, circuit.probe_until_s - now_s, 0.0) if circuit.is_open else 0.0

    def begin(self, now_s: float, *, forced: bool = False) -> Attempt | None:
        """An attempt, of which the caller must tell the end; None while the deployment is to be left alone.

        ``forced`` is for the last target of a chain, which is never refused without a try: it probes even while the
        circuit is open, as soon as no other probe is under way or the latest has not failed for ``FORCED_EVERY_S``.
        """
        circuit = self._store.load(self._deployment)
        if circuit.is_open:
            return self._begin_probe(circuit, now_s, forced)
        circuit.in_flight += 1
        if self._told != "closed":
            self._tell("closed")
        return Attempt(self, now_s, circuit.generation, 0)

    def _begin_probe(self, circuit: Circuit, now_s: float, forced: bool) -> Attempt | None:
        if self._is_left_alone(circuit, now_s, forced):
            self._tell(self.state(now_s))
            return None
        circuit.probes += 1
        circuit.probe_until_s = now_s + self._policy.open_s
        circuit.in_flight += 1
        self._store.save(self._deployment, circuit)
        self._tell("half_open")
        return Attempt(self, now_s, circuit.generation, circuit.probes)

    def _is_left_alone(self, circuit: Circuit, now_s: float, forced: bool) -> bool:
        if not forced:
            return now_s < max(circuit.probe_until_s, circuit.open_until_s)
        began_s = circuit.probe_until_s - self._policy.open_s
        return now_s < circuit.probe_until_s and now_s < began_s + FORCED_EVERY_S

    def _succeeded(self, attempt: Attempt, now_s: float) -> None:
        circuit = self._store.load(self._deployment)
        circuit.in_flight -= 1
        if attempt.generation != circuit.generation:
            return
        if attempt.probe:
            self._close(circuit)
        else:
            circuit.consecutive = 0
            self._count(circuit, now_s)
        self._store.save(self._deployment, circuit)
        if attempt.probe:
            self._tell("closed")

    def _failed(self, attempt: Attempt, now_s: float) -> None:
        circuit = self._store.load(self._deployment)
        circuit.in_flight -= 1
        opens = False
        if attempt.generation == circuit.generation:
            if attempt.probe:
                opens = attempt.probe == circuit.probes
            else:
                circuit.consecutive += 1
                self._count(circuit, now_s)
                circuit.failures += 1.0
                opens = self._is_too_much(circuit)
        if opens:
            self._open(circuit, attempt.begun_s, now_s)
        self._store.save(self._deployment, circuit)
        if opens:
            self._tell("open")

    def _ignored(self, attempt: Attempt, now_s: float) -> None:
        circuit = self._store.load(self._deployment)
        circuit.in_flight -= 1
        frees = attempt.probe > 0 and attempt.probe == circuit.probes
        if frees:
            circuit.probe_until_s = 0.0
        self._store.save(self._deployment, circuit)
        if frees:
            self._tell(self.state(now_s))

    def _count(self, circuit: Circuit, now_s: float) -> None:
        fading = math.exp(min(circuit.counted_at_s - now_s, 0.0) / self._policy.window_s)
        circuit.attempts = circuit.attempts * fading + 1.0
        circuit.failures *= fading
        circuit.counted_at_s = now_s

    def _is_too_much(self, circuit: Circuit) -> bool:
        policy = self._policy
        if circuit.consecutive >= min(policy.consecutive_failures, policy.alone_failures + circuit.in_flight):
            return True
        share = policy.failure_ratio * circuit.attempts
        return circuit.attempts >= policy.min_attempts and circuit.failures >= share

    def _open(self, circuit: Circuit, begun_s: float, now_s: float) -> None:
        circuit.generation += 1
        circuit.is_open = True
        circuit.open_until_s = max(begun_s + self._policy.open_s, now_s + self._policy.open_s / 2)
        circuit.probe_until_s = 0.0

    def _close(self, circuit: Circuit) -> None:
        circuit.generation += 1
        circuit.is_open = False
        circuit.consecutive = 0
        circuit.attempts = circuit.failures = 0.0
        circuit.open_until_s = circuit.probe_until_s = 0.0

    def _tell(self, state: State) -> None:
        before, self._told = self._told, state
        if state != before and self._on_change is not None:
            self._on_change(self._deployment, before, state)
