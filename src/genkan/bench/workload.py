"""The prompts and lengths of the benchmarks: the same in every run, for they are drawn from a seed.

Prompts are random token ids, which cost the engine what text costs and never begin alike by chance.
"""

import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

FIRST_ID, END_ID = 20, 49_152  # the first ids of SmolLM2's vocabulary are special tokens

SYSTEM_PROMPTS = 20
SYSTEM_TOKENS = 1_000
OWN_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, how many tokens to generate after it, and the prefix cache's namespace it is answered in."""

    prompt: list[int]
    output_tokens: int
    namespace: bytes = b""


def unseen(requests: Sequence[Request]) -> list[Request]:
    """``requests`` in one namespace that no cache has seen: they can share with each other only."""
    namespace = secrets.token_bytes(16)
    return [replace(request, namespace=namespace) for request in requests]


def isolated(requests: Sequence[Request]) -> list[Request]:
    """``requests`` in a namespace each: the cache does all its work and finds nothing."""
    return [replace(request, namespace=secrets.token_bytes(16)) for request in requests]


class Workload:
    """Draws prompts and lengths. Two with the same seed draw the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable is what is wanted

    def prompt(self, tokens: int) -> list[int]:
        """``tokens`` random ids, none of them special."""
        return [self._random.randrange(FIRST_ID, END_ID) for _ in range(tokens)]

    def shared(self, number: int, *, system_tokens: int, output_tokens: int) -> list[Request]:
        """``number`` requests, each after one of 20 system prompts, with 8 to 32 tokens of its own.

        Every system prompt comes equally often (but for a remainder), in random order.
        """
        systems = [self.prompt(system_tokens) for _ in range(SYSTEM_PROMPTS)]
        order = [systems[index % SYSTEM_PROMPTS] for index in range(number)]
        self._random.shuffle(order)
        return [
            Request(system + self.prompt(self._random.randint(OWN_TOKENS // 4, OWN_TOKENS)), output_tokens)
            for system in order
        ]

    def unique(self, number: int, *, prompt_tokens: int, output_tokens: int) -> list[Request]:
        """``number`` requests that have nothing in common."""
        return [Request(self.prompt(prompt_tokens), output_tokens) for _ in range(number)]

    def exponential(self, number: int, *, prompt_tokens: int, mean: float, longest: int) -> list[Request]:
        """``number`` requests whose outputs are of exponential length, at least 1 and at most ``longest`` tokens."""
        return [
            Request(self.prompt(prompt_tokens), min(longest, math.ceil(self._random.expovariate(1 / mean))))
            for _ in range(number)
        ]


def slot_steps(lengths: list[int], slots: int) -> float:
    """What continuous batching could gain at most over static, were every decode step equally long.

    The steps of static batches of ``slots``, over the steps when a slot takes the next sequence as soon as it is free.
    """
    static = sum(max(lengths[start : start + slots]) for start in range(0, len(lengths), slots))
    ends = [0] * slots
    for length in lengths:
        soonest = ends.index(min(ends))
        ends[soonest] += length
    return static / max(ends)
