"""What comes of a step, collected sequence by sequence."""

from collections.abc import Sequence as Many

from genkan.engine.plan import Scheduled
from genkan.engine.sequence import Sequence
from genkan.engine.statistics import StepReport
from genkan.engine.stream import Item, TokenStream


class StepResult:
    """``items`` for the readers, and what the report says. ``now_s``: when the step was computed."""

    def __init__(self, parts: Many[Scheduled]) -> None:
        """To be made before ``parts`` are computed: what they are shows in what they have."""
        # After a preemption what was generated is computed like a prompt, and costs as much.
        decodes = [part for part in parts if part.count == 1 and part.sequence.token_at_s is not None]
        self._num_decodes = len(decodes)
        self._prompt_tokens = sum([part.count for part in parts]) - len(decodes)
        self._first_token_s: list[float] = []
        self._token_gap_s: list[float] = []
        self.now_s = 0.0
        self.items: list[tuple[TokenStream, Item]] = []

    def drawn(self, sequence: Sequence) -> None:
        """A token of ``sequence`` came of it."""
        if sequence.token_at_s is None:
            self._first_token_s.append(self.now_s - sequence.submitted_s)
        else:
            self._token_gap_s.append(self.now_s - sequence.token_at_s)
        sequence.token_at_s = self.now_s

    def report(self, began_s: float) -> StepReport:
        return StepReport(
            step_s=self.now_s - began_s,
            num_decodes=self._num_decodes,
            prompt_tokens=self._prompt_tokens,
            first_token_s=self._first_token_s,
            token_gap_s=self._token_gap_s,
        )
