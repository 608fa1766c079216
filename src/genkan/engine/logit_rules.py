"""What changes a row of logits before a token is chosen: bias, the fewest tokens, the grammar, penalties.

Sums are in float64 and stay within float32: no rule turns a logit that is a number into an infinite one but to forbid
the token, and what the model forbade stays so. Each costs in proportion to the tokens it touches, the grammar aside.
"""

from array import array
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from genkan.engine.grammar.matcher import Matcher
from genkan.engine.ranking import Floats
from genkan.engine.sampling_params import SamplingParams

_LARGEST = float(np.finfo(np.float32).max)

_Ids = npt.NDArray[np.int64]
_Sums = npt.NDArray[np.float64]


class LogitRules:
    """The rules of one sequence, and what they remember of its tokens."""

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], matcher: Matcher | None) -> None:
        """``prompt_ids`` count for the penalties, and are looked at for nothing else."""
        self._bias = _Bias(params.logit_bias) if params.logit_bias else None
        self._min_tokens = params.min_tokens if params.stop_ids else 0
        self._stop_ids = np.array(sorted(params.stop_ids), dtype=np.int64)
        self._matcher = matcher
        self._penalties = Penalties(params, prompt_ids) if _has_penalties(params) else None

    @classmethod
    def of(cls, params: SamplingParams, prompt_ids: Sequence[int], matcher: Matcher | None) -> Self | None:
        """None where ``params`` ask for no rule: the logits go to the choice as they are."""
        rules = cls(params, prompt_ids, matcher)
        return rules if rules._bias or rules._min_tokens or matcher or rules._penalties else None

    @property
    def is_closed(self) -> bool:
        """Whether the grammar lets nothing follow but the end."""
        return self._matcher is not None and self._matcher.is_closed

    def apply(self, row: Floats, position: int) -> None:
        """Change the logits ``row`` (``[vocab]``, no NaN) of the answer's token number ``position``, in place.

        A stop id that is too early is allowed where the grammar lets nothing else follow. Raises EngineFailed when the
        grammar can go on no more.
        """
        if self._bias is not None:
            self._bias.apply(row)
        if position < self._min_tokens:
            self._forbid_stop(row)
        elif self._matcher is not None:
            self._matcher.mask(row)
        if self._penalties is not None:
            self._penalties.apply(row)

    def take(self, token: int, remaining: int) -> int:
        """Remember ``token``, which was chosen; the token that goes into the answer: the grammar may need another.

        ``remaining`` tokens may follow. Raises EngineFailed.
        """
        if self._matcher is not None:
            token = self._matcher.take(token, remaining)
        if self._penalties is not None:
            self._penalties.count(token)
        return token

    def _forbid_stop(self, row: Floats) -> None:
        ids = self._stop_ids[self._stop_ids < len(row)]
        before = row[ids]
        row[ids] = -np.inf
        if self._matcher is None:
            return
        self._matcher.mask(row)
        if row.max() == -np.inf:  # the grammar is at its end
            row[ids] = before
            self._matcher.mask(row)


class _Bias:
    """Adds a number to the logits of some tokens; of two for the same token the last."""

    def __init__(self, bias: tuple[tuple[int, float], ...]) -> None:
        values = dict(bias)
        self._ids = np.array(list(values), dtype=np.int64)
        self._values = np.array(list(values.values()), dtype=np.float64)

    def apply(self, row: Floats) -> None:
        _change(row, self._ids, row[self._ids] + self._values)


class Penalties:
    """Makes tokens less likely that were there before, or likelier where the numbers say so.

    The distinct tokens and how often the answer has each are kept as they come, so a row costs in proportion to the
    distinct tokens, however long the answer. Repetition counts prompt and answer, presence and frequency the answer
    alone, as in vLLM.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int]) -> None:
        """The last of ``prompt_ids`` may be the answer's: see ``SamplingParams.continued``."""
        begun = len(prompt_ids) - params.continued
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._ids = array("q", dict.fromkeys(prompt_ids[:begun]) if self._repetition != 1 else ())
        self._counts = array("d", bytes(8 * len(self._ids)))  # in the answer
        self._places = {token: place for place, token in enumerate(self._ids)}
        for token in prompt_ids[begun:]:
            self.count(token)

    def count(self, token: int) -> None:
        """``token`` is the next of the answer."""
        place = self._places.setdefault(token, len(self._ids))
        if place == len(self._ids):
            self._ids.append(token)
            self._counts.append(0)
        self._counts[place] += 1

    def apply(self, row: Floats) -> None:
        """Penalise what was there, in place. ``row``: ``[vocab]``, no NaN."""
        if not self._ids:
            return
        ids: _Ids = np.frombuffer(self._ids, dtype=np.int64)  # of these two none may live on: the arrays could not grow
        counts: _Sums = np.frombuffer(self._counts, dtype=np.float64)
        logits = row[ids].astype(np.float64)
        with np.errstate(over="ignore"):
            logits = np.where(logits > 0, logits / self._repetition, logits * self._repetition)
        logits -= counts * self._frequency
        logits -= (counts > 0) * self._presence
        _change(row, ids, logits)


def _has_penalties(params: SamplingParams) -> bool:
    return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0


def _change(row: Floats, ids: _Ids, logits: _Sums) -> None:
    """Set ``row[ids]``, within float32, but for those that are forbidden."""
    allowed = row[ids] > -np.inf
    row[ids[allowed]] = np.clip(logits[allowed], -_LARGEST, _LARGEST)
