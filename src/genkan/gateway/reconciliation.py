"""The ledger's attempts against what an upstream says it served. Pure.

Every attempt goes to its upstream under an id of its own, ``x-client-request-id``, which an export of the upstream's
usage has to carry. Attempts that never came to use anything, such as refused connections, need not be there.

An attempt at the edge of the compared time may be on one side only, so compare whole days that are over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from genkan.gateway.ledger_export import attempt_id
from genkan.gateway.ledger_row import LOST, Row
from genkan.gateway.money import usd_number

Finding = Literal[
    "missing_there",
    "missing_here",
    "unknown_here",  # the attempt, or a request that was lost, is known, but not what it used
    "different_tokens",
    "different_cost",
    "duplicates_there",
    "duplicates_here",
]
_FINDINGS: tuple[Finding, ...] = get_args(Finding)
EXAMPLES = 100


class Used(NamedTuple):
    """What one attempt used, by either side. None: that side does not know."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cost_nano_usd: int | None = None

    @property
    def is_something(self) -> bool:
        return bool(self.prompt_tokens or self.completion_tokens or self.cost_nano_usd)


class Difference(NamedTuple):
    """One attempt on which the sides do not agree."""

    finding: Finding
    id: str
    here: Used | None
    there: Used | None


@dataclass(slots=True)
class Side:
    """The sums of one side, over all its attempts; of those it does not know the tokens or cost of, without them."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0
    unknown_tokens: int = 0
    unknown_cost: int = 0

    def add(self, used: Used) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.prompt_tokens += used.prompt_tokens or 0
        self.completion_tokens += used.completion_tokens or 0
        self.cost_nano_usd += used.cost_nano_usd or 0
        self.unknown_tokens += used.prompt_tokens is None
        self.unknown_cost += used.cost_nano_usd is None

    def as_json(self) -> dict[str, Any]:
        return {
            "attempts": self.attempts,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "unknown_tokens": self.unknown_tokens,
            "cost_nano_usd": self.cost_nano_usd,
            "cost_usd": usd_number(self.cost_nano_usd),
            "unknown_cost": self.unknown_cost,
        }


@dataclass(slots=True)
class Comparison:
    """What came of it."""

    matched: int = 0  # on both sides, with the same tokens and, where both know it, the same cost
    unused: int = 0  # attempts of ours that used nothing and are not there, as they need not be
    malformed: int = 0  # records of the upstream's that could not be read
    counts: dict[Finding, int] = field(default_factory=lambda: dict.fromkeys(_FINDINGS, 0))
    examples: list[Difference] = field(default_factory=list)  # at most 100 of each finding
    here: Side = field(default_factory=Side)
    there: Side = field(default_factory=Side)

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to look into."""
        return not self.malformed and not any(self.counts.values())

    def found(self, difference: Difference) -> None:
        """Count a difference, and keep it if there are not many of its kind."""
        self.counts[difference.finding] += 1
        if self.counts[difference.finding] <= EXAMPLES:
            self.examples.append(difference)

    def as_json(self) -> dict[str, Any]:
        return {
            "agrees": self.agrees,
            "matched": self.matched,
            **{str(finding): count for finding, count in self.counts.items()},
            "unused": self.unused,
            "malformed": self.malformed,
            "here": self.here.as_json(),
            "there": self.there.as_json(),
            "differences": [_difference_json(difference) for difference in self.examples],
        }


class Reconciliation:
    """Takes the ledger's rows, then the upstream's records, and compares them.

    It keeps every attempt of the compared time, some 200 bytes each.
    """

    def __init__(self, upstream: str | None = None, *, cost_tolerance_nano_usd: int = 1) -> None:
        """``upstream``: compare only attempts there; None: all. Costs that differ by no more than the tolerance, which
        is for how the other side rounds, are the same."""
        self._ending = None if upstream is None else f"@{upstream}"
        self._tolerance = cost_tolerance_nano_usd
        self._here: dict[str, Used] = {}
        self._there: dict[str, Used] = {}
        self._lost: set[str] = set()  # requests
        self._comparison = Comparison()

    def add_row(self, row: Row) -> None:
        """A row of the ledger. A ``late`` one replaces the attempts of the row before it."""
        if row.state == LOST:
            self._lost.add(row.id)
        for attempt in row.attempts:
            if self._ending is not None and not attempt.deployment.endswith(self._ending):
                continue
            usage, name = attempt.usage, attempt_id(row, attempt)
            prompt, completion = (usage.prompt, usage.completion) if usage else (None, None)
            used = Used(prompt, completion, attempt.cost_nano_usd)
            if name in self._here and not row.late:
                self._comparison.found(Difference("duplicates_here", name, used, None))
            else:
                self._here[name] = used

    def add_record(self, request_id: str, used: Used) -> None:
        """A record of the upstream's; without an id it is none of ours.

        The second of an id is a duplicate: it is in the sums, but not compared.
        """
        self._comparison.there.add(used)
        if not request_id:
            self._comparison.found(Difference("missing_here", "", None, used))
        elif request_id in self._there:
            self._comparison.found(Difference("duplicates_there", request_id, self._here.get(request_id), used))
        else:
            self._there[request_id] = used

    def add_malformed(self) -> None:
        """A record of the upstream's that could not be read."""
        self._comparison.malformed += 1

    def compared(self) -> Comparison:
        """The result; call it once, when everything has been added."""
        for difference in self._differences():
            self._comparison.found(difference)
        return self._comparison

    def _differences(self) -> Iterator[Difference]:
        for name, here in self._here.items():
            self._comparison.here.add(here)
            there = self._there.get(name)
            if there is not None:
                yield from self._compared(name, here, there)
            elif here.is_something:
                yield Difference("missing_there", name, here, None)
            else:
                self._comparison.unused += 1
        for name, there in self._there.items():
            if name not in self._here:
                is_lost = name.rpartition(".")[0] in self._lost
                yield Difference("unknown_here" if is_lost else "missing_here", name, None, there)

    def _compared(self, name: str, here: Used, there: Used) -> Iterator[Difference]:
        if here.prompt_tokens is None:
            if there.is_something:
                yield Difference("unknown_here", name, here, there)
            else:
                self._comparison.matched += 1
            return
        agrees = True
        if (here.prompt_tokens, here.completion_tokens) != (there.prompt_tokens, there.completion_tokens):
            agrees = False
            yield Difference("different_tokens", name, here, there)
        if self._cost_differs(here, there):
            agrees = False
            yield Difference("different_cost", name, here, there)
        self._comparison.matched += agrees

    def _cost_differs(self, here: Used, there: Used) -> bool:
        if here.cost_nano_usd is None or there.cost_nano_usd is None:
            return False  # there is nothing to compare with; the sums count it as unknown
        return abs(here.cost_nano_usd - there.cost_nano_usd) > self._tolerance


def _difference_json(difference: Difference) -> dict[str, Any]:
    sides = {"here": difference.here, "there": difference.there}
    return {"finding": difference.finding, "id": difference.id} | {
        side: None if used is None else used._asdict() for side, used in sides.items()
    }
