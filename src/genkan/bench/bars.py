"""What a soak found, and whether that is as it must be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and what it is held against."""

    what: str
    value: float
    sense: Literal["≤", "≥"]
    bound: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.value <= self.bound if self.sense == "≤" else self.value >= self.bound

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "MISSED"
        return f"{self.what:<44} {self.value:>10,.3g} {self.unit:<8} {self.sense} {self.bound:<8,.5g} {verdict}"


@dataclass(frozen=True, slots=True)
class Soaked:
    """One soak's figures for the JSON line, and those with a bar for the table."""

    name: str
    bars: list[Bar]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        return all(bar.is_met for bar in self.bars)


def table(soaks: list[Soaked]) -> str:
    """A line for each bar."""
    return "\n".join(line for soak in soaks for line in (soak.name, *(f"  {bar}" for bar in soak.bars)))
