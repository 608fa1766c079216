"""What a step is to do, and the making of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from genkan.engine.sequence import Sequence
from genkan.engine.sequence_blocks import BlockCopy


@dataclass(slots=True, init=False)
class Scheduled:
    """A sequence's part of a step: ``count`` tokens from ``sequence.num_computed`` on.

    ``wants_token``: whether all its tokens have KV then, so that the next can be drawn. ``outputs``: after how many of
    its last tokens logits are wanted.
    """

    sequence: Sequence
    count: int
    wants_token: bool
    outputs: int

    def __init__(self, sequence: Sequence, count: int) -> None:
        """As the sequence is now: what the step itself changes in it does not change what the step was to do."""
        self.sequence, self.count = sequence, count
        self.wants_token = wants_token = count == sequence.num_to_compute
        if sequence.num_unscored:
            self.outputs = max(sequence.num_computed + count - sequence.num_scored, 0)
        else:
            self.outputs = int(wants_token)


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
