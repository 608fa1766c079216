"""What a step is to do, and the making of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from genkan.engine.sequence import Sequence
from genkan.engine.sequence_blocks import BlockCopy


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sequence's part of a step: ``count`` tokens from ``sequence.num_computed`` on."""

    sequence: Sequence
    count: int

    @property
    def wants_token(self) -> bool:
        """Whether all its tokens have KV then, so that the next can be drawn."""
        return self.count == self.sequence.num_to_compute

    @property
    def outputs(self) -> int:
        """After how many of its last tokens logits are wanted."""
        sequence = self.sequence
        if sequence.num_unscored:
            return max(sequence.num_computed + self.count - sequence.num_scored, 0)
        return int(self.wants_token)


class Plan(NamedTuple):
    """What a step does. Copies to the host and back come first; there are never both."""

    parts: list[Scheduled]
    copies_out: list[BlockCopy]
    copies_in: list[BlockCopy]


@dataclass(slots=True)
class PlanDraft:
    """A plan in the making."""

    budget: int
    scores_left: int
    prompt_budget: int = 0  # of the budget, what prompts may take
    has_prompt: bool = False
    parts: dict[Sequence, int] = field(default_factory=dict)
    preempted: set[Sequence] = field(default_factory=set)
    copies_out: list[BlockCopy] = field(default_factory=list)
    copies_in: list[BlockCopy] = field(default_factory=list)

    def add(self, sequence: Sequence, count: int) -> None:
        self.parts[sequence] = count
        if sequence.num_unscored:
            scored = min(sequence.num_computed + count, sequence.num_prompt - 1) - sequence.num_scored
            self.scores_left -= max(scored, 0)
        self.budget = max(self.budget - count, 0)
        self.prompt_budget = max(self.prompt_budget - count, 0)  # 0 as yet while the decodes are added
        self.has_prompt |= count > 1

    def withdraw(self, victim: Sequence) -> int:
        """A preempted sequence's part is not computed; how many tokens that was."""
        self.preempted.add(victim)
        count = self.parts.pop(victim, 0)
        self.budget += count
        return count
