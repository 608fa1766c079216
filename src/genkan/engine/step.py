"""One step's computation: the forward pass, and what it gives each sequence. A failure fails as few as can be.

A pass that raises is tried again in halves, so that what one sequence breaks fails that sequence only. Whatever fails
while a token is drawn fails the sequence it is drawn for.
"""

import logging
from collections.abc import Mapping
from collections.abc import Sequence as Ids

import torch

from genkan.engine.batch import BatchItem
from genkan.engine.device_sampler import sample_on_device
from genkan.engine.logprobs import prompt_logprobs
from genkan.engine.plan import Scheduled
from genkan.engine.runner import Pass
from genkan.engine.sampler import Drawn, RowSampler, sample
from genkan.engine.sequence import Sequence
from genkan.errors import EngineFailed

_log = logging.getLogger("genkan.engine")

Outcome = Drawn | EngineFailed | None
"""A sequence's next token, why it failed, or None while it is not through its prompt."""


def compute(forward: Pass, parts: Ids[Scheduled], samplers: Mapping[Sequence, RowSampler]) -> list[Outcome]:
    """An outcome for each of ``parts``. Log probabilities of the prompt go to the sequence."""
    try:
        logits = forward([_item(part) for part in parts])
    except Exception as error:  # noqa: BLE001 - whatever it is, it fails as few sequences as can be
        if len(parts) == 1:
            _log.error("a sequence of %d tokens failed", len(parts[0].sequence.tokens), exc_info=error)
            return [failed()]
    else:
        return _outcomes(parts, logits, samplers)
    middle = len(parts) // 2
    return compute(forward, parts[:middle], samplers) + compute(forward, parts[middle:], samplers)


def failed() -> EngineFailed:
    """What a client is told; the log has said more."""
    return EngineFailed("The engine failed on this request.")


def _item(part: Scheduled) -> BatchItem:
    sequence, start = part.sequence, part.sequence.num_computed
    return BatchItem(sequence.tokens[start : start + part.count], start, sequence.blocks, part.outputs)


def _outcomes(parts: Ids[Scheduled], logits: torch.Tensor, samplers: Mapping[Sequence, RowSampler]) -> list[Outcome]:
    outcomes: list[Outcome] = [None] * len(parts)
    wanting: list[int] = []  # places in ``parts`` of those that want a token
    rows: list[int] = []  # of logits that they want it from
    end = 0
    for place, part in enumerate(parts):
        begin, end = end, end + part.outputs
        wants_token = part.wants_token
        if end - begin > wants_token:
            outcomes[place] = _score(part.sequence, logits[begin : end - wants_token])
        if wants_token and outcomes[place] is None:
            wanting.append(place)
            rows.append(end - 1)
    if len(rows) < len(logits):
        logits = logits[rows]
    for place, drawn in zip(
        wanting, _drawn([parts[place].sequence for place in wanting], logits, samplers), strict=True
    ):
        outcomes[place] = drawn
    return outcomes


def _score(sequence: Sequence, logits: torch.Tensor) -> EngineFailed | None:
    """Add the log probabilities of the next tokens of its prompt, one for each row."""
    first = sequence.num_scored + 1
    ids, top = sequence.tokens[first : first + len(logits)], sequence.params.prompt_logprobs
    assert top is not None
    try:
        sequence.prompt_logprobs += prompt_logprobs(logits.cpu(), ids, top)
    except Exception as error:  # noqa: BLE001 - it fails one sequence
        _log.error("a prompt of %d tokens cannot be scored", sequence.num_prompt, exc_info=error)
        return failed()
    sequence.num_unscored -= len(logits)
    return None


def _drawn(
    sequences: list[Sequence], logits: torch.Tensor, samplers: Mapping[Sequence, RowSampler]
) -> list[Drawn | EngineFailed]:
    if not sequences:
        return []
    try:
        rows = [(samplers[each], each.position, _remaining(each)) for each in sequences]
        return sample(logits, rows) if logits.is_cpu else sample_on_device(logits, rows)
    except Exception as error:  # noqa: BLE001 - ours or the runner's; some may have drawn, so nothing is tried again
        _log.error("no tokens could be drawn for %d sequences", len(sequences), exc_info=error)
        return [failed() for _ in sequences]


def _remaining(sequence: Sequence) -> int:
    """Tokens that may follow the next one."""
    return sequence.params.max_tokens - sequence.num_generated - 1
