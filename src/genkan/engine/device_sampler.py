"""Tokens from logits that lie on a GPU: the greedy ones are chosen there, and only the others' logits come here."""

from collections.abc import Sequence

import torch

from genkan.engine.sampler import Drawn, RowSampler, sample
from genkan.errors import EngineFailed


def sample_on_device(logits: torch.Tensor, rows: Sequence[tuple[RowSampler, int, int]]) -> list[Drawn | EngineFailed]:
    """As ``sample``, for ``logits`` on any device, and the same tokens bit for bit.

    Cost: for rows that are greedy and plain a number each, for the others a vocabulary of float32.
    """
    best = [None if token < 0 else token for token in lowest_best(logits).tolist()]
    here = [
        place
        for place, (sampler, _, _) in enumerate(rows)
        if best[place] is None or not (sampler.is_plain and sampler.is_greedy)
    ]
    drawn: dict[int, Drawn | EngineFailed] = {}
    if here:
        drawn.update(zip(here, sample(logits[here].cpu(), [rows[place] for place in here]), strict=True))
    return [drawn[place] if token is None or place in drawn else Drawn(token) for place, token in enumerate(best)]


def lowest_best(logits: torch.Tensor) -> torch.Tensor:
    """The lowest id of each row's maximum, int32; -1 where that is not finite. A GPU's own argmax takes any of equals.

    Takes about as much memory again as ``logits``, float32 ``[rows, vocab]``.
    """
    peaks = logits.amax(dim=-1, keepdim=True)  # a NaN wins
    ids = torch.arange(logits.shape[-1], dtype=torch.int32, device=logits.device)
    lowest = torch.where(logits == peaks, ids, logits.shape[-1]).amin(dim=-1)
    return torch.where(torch.isfinite(peaks[:, 0]), lowest, -1)
