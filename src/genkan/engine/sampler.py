"""Logits to a token id."""

import hashlib

import torch

from genkan.engine.sequence import SamplingParams

GREEDY_BELOW = 1e-5  # dividing logits by less overflows


class Sampler:
    """Draws the tokens of one sequence: repeatable for a seed, whatever else the engine does meanwhile."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._generator: torch.Generator | None = None
        if params.temperature >= GREEDY_BELOW:
            self._generator = torch.Generator()
            if params.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(_mixed(params.seed))

    def sample(self, logits: torch.Tensor) -> int:
        """A token id drawn from ``logits`` (float, ``[vocab]``, unnormalised)."""
        if self._generator is None:
            return int(logits.argmax())
        probabilities = torch.softmax(logits.float() / self._params.temperature, dim=-1)
        if self._params.top_p < 1:
            probabilities = _nucleus(probabilities, self._params.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of most likely tokens that holds ``top_p``, the rest zeroed. Not normalised again.

    Source: nucleus sampling, arXiv:1904.09751.
    """
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(0) - ordered
    beyond = before >= top_p
    beyond[0] = False  # also for a top_p that is 0 in float32
    ordered[beyond] = 0
    return torch.zeros_like(probabilities).scatter_(0, ids, ordered)


def _mixed(seed: int) -> int:
    """A seed whose every bit depends on all of ``seed``: torch's generator on the CPU takes only the lower 32."""
    digest = hashlib.blake2b(seed.to_bytes(16, "little", signed=True), digest_size=8).digest()
    return int.from_bytes(digest, "little")
