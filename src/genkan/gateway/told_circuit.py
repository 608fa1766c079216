"""What one worker tells the others of a circuit, and how they take it. Pure.

Theory. Every opening and closing counts a circuit's generation up, so of two workers that disagree the one with the
higher generation knows more, and all of its circuit is taken. Within one generation

* failures in a row: the larger number holds, as each worker counts on from what it was told; 0 ends the row for all;
* the probe: that with the higher number is the latest. Of the same number the longer holds, unless it has ended;
* ``open_until_s``: the later;
* closed goes before open: two probes ran at once, and the one that was answered says more than the one that was not.

The sums behind the share of failures are not told: each worker's own attempts are a fair sample. What is in flight is
each worker's own affair as well. Moments are told as durations, as monotonic clocks have nothing in common.
"""

from dataclasses import dataclass

import orjson

from genkan.gateway.breaker import Circuit

_FAR_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ToldCircuit:
    """A circuit as it is told."""

    worker: str
    deployment: str
    generation: int
    consecutive: int
    is_open: bool
    open_s: float  # for how long from now on
    probes: int
    probe_s: float  # for how long the latest still counts; 0 when it has ended

    @classmethod
    def of(cls, worker: str, deployment: str, circuit: Circuit, now_s: float) -> "ToldCircuit":
        """What ``worker`` tells of its ``circuit``."""
        return cls(
            worker=worker,
            deployment=deployment,
            generation=circuit.generation,
            consecutive=circuit.consecutive,
            is_open=circuit.is_open,
            open_s=max(circuit.open_until_s - now_s, 0.0),
            probes=circuit.probes,
            probe_s=max(circuit.probe_until_s - now_s, 0.0),
        )

    @classmethod
    def read(cls, message: bytes) -> "ToldCircuit | None":
        """What ``message`` tells; None if it is none of ours."""
        try:
            fields = orjson.loads(message)
            told = cls(*(fields[name] for name in cls.__slots__))
            is_sound = (
                isinstance(told.worker, str)
                and isinstance(told.deployment, str)
                and isinstance(told.is_open, bool)
                and all(type(number) is int and number >= 0 for number in told._counts)
                and all(0.0 <= duration_s <= _FAR_S for duration_s in (told.open_s, told.probe_s))
            )
        except (ValueError, TypeError, KeyError):
            return None
        return told if is_sound else None

    @property
    def _counts(self) -> tuple[int, int, int]:
        return self.generation, self.consecutive, self.probes

    def write(self) -> bytes:
        """The message."""
        return orjson.dumps(self)

    def merge_into(self, circuit: Circuit, now_s: float, *, age_s: float | None = None) -> None:
        """Change ``circuit`` by what was told ``age_s`` ago; None for just now."""
        open_until_s = now_s + max(self.open_s - (age_s or 0.0), 0.0)
        probe_left_s = self.probe_s - (age_s or 0.0)
        probe_until_s = now_s + probe_left_s if probe_left_s > 0 else 0.0
        if self._is_later_than(circuit):
            circuit.generation, circuit.is_open, circuit.consecutive = self.generation, self.is_open, self.consecutive
            circuit.probes = max(circuit.probes, self.probes)
            circuit.open_until_s = open_until_s if self.is_open else 0.0
            circuit.probe_until_s = probe_until_s
            if not self.is_open:
                circuit.attempts = circuit.failures = 0.0
            return
        if self.generation < circuit.generation or self.is_open != circuit.is_open:
            return
        is_over = self.consecutive == 0 and age_s is None  # what is old may have been told before we failed
        circuit.consecutive = 0 if is_over else max(circuit.consecutive, self.consecutive)
        if self.is_open:
            circuit.open_until_s = max(circuit.open_until_s, open_until_s)
        if self.probes > circuit.probes or (self.probes == circuit.probes and probe_until_s == 0.0):
            circuit.probes, circuit.probe_until_s = self.probes, probe_until_s
        elif self.probes == circuit.probes and circuit.probe_until_s > 0.0:
            circuit.probe_until_s = max(circuit.probe_until_s, probe_until_s)

    def _is_later_than(self, circuit: Circuit) -> bool:
        if self.generation == circuit.generation:
            return circuit.is_open and not self.is_open
        return self.generation > circuit.generation
