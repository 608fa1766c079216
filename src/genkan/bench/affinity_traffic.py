"""Chats for `genkan.bench.affinity`: tenants whose system prompts are popular very differently, and turns that overlap.

A token is a word, so that what the gateway hashes and what a cache compares are the same prompt.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from genkan.wire.chat import ChatRequest

TOKEN_S = 0.02  # between two tokens of an answer
PREFILL_TOKENS_S = 8000.0

_VOCABULARY = 4096
_ROLES = {"system": _VOCABULARY, "user": _VOCABULARY + 1, "assistant": _VOCABULARY + 2}  # a token before each message
_THINKING_S = 20.0
_GREETINGS = 5
_DOCUMENTS = 3  # of each system prompt's


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much of what. Lengths are log-normal: the median, and what one standard deviation multiplies it by."""

    chats: int = 4000
    chats_per_s: float = 1.8
    system_prompts: int = 100
    zipf: float = 1.0
    tenants: int = 40
    turns: tuple[int, int] = (1, 8)
    system_tokens: tuple[float, float] = (600, 2.0)
    user_tokens: tuple[float, float] = (60, 2.0)
    answer_tokens: tuple[float, float] = (150, 1.7)
    greeted: float = 0.15  # of the chats begin with one of the same few short messages,
    with_document: float = 0.1  # and so many with a document of the tenant's and a question after it
    document_tokens: tuple[float, float] = (1000, 1.7)


@dataclass(frozen=True, slots=True)
class Turn:
    """One request, the tokens of its prompt, and those of the answer that it will get."""

    at_s: float
    tenant: str
    request: ChatRequest
    prompt: list[int]
    answer: list[int]


def turns(traffic: Traffic, seed: int) -> list[Turn]:
    """All requests in the order in which they come: chats as a Poisson process, each turn after a pause for thought."""
    rng = random.Random(seed)  # noqa: S311 - repeatable is what is wanted
    systems = [_words(rng, traffic.system_tokens) for _ in range(traffic.system_prompts)]
    popularity = list(accumulate((rank + 1) ** -traffic.zipf for rank in range(traffic.system_prompts)))
    greetings = [_words(rng, (3, 1.5)) for _ in range(_GREETINGS)]
    documents = [[_words(rng, traffic.document_tokens) for _ in range(_DOCUMENTS)] for _ in systems]
    now_s, told = 0.0, []
    for _ in range(traffic.chats):
        now_s += rng.expovariate(traffic.chats_per_s)
        (which,) = rng.choices(range(traffic.system_prompts), cum_weights=popularity)
        kind = rng.random()
        opening = _words(rng, traffic.user_tokens)
        if kind < traffic.greeted:
            opening = rng.choice(greetings)
        elif kind < traffic.greeted + traffic.with_document:
            opening = rng.choice(documents[which]) + opening
        told += _chat(rng, traffic, now_s, f"tenant-{which % traffic.tenants}", systems[which], opening)
    return sorted(told, key=lambda turn: turn.at_s)


def _chat(
    rng: random.Random, traffic: Traffic, at_s: float, tenant: str, system: Sequence[int], opening: list[int]
) -> list[Turn]:
    messages = [_message("system", system)]
    prompt = [_ROLES["system"], *system]
    told = []
    for number in range(rng.randint(*traffic.turns)):
        said = opening if number == 0 else _words(rng, traffic.user_tokens)
        messages = [*messages, _message("user", said)]
        prompt = [*prompt, _ROLES["user"], *said, _ROLES["assistant"]]
        answer = _words(rng, traffic.answer_tokens)
        request = ChatRequest.from_object({"model": "chat", "messages": messages, "stream": True})
        told.append(Turn(at_s, tenant, request, prompt, answer))
        messages = [*messages, _message("assistant", answer)]
        prompt = [*prompt, *answer]
        at_s += TOKEN_S * len(answer) + len(prompt) / PREFILL_TOKENS_S + rng.expovariate(1 / _THINKING_S)
    return told


def _words(rng: random.Random, tokens: tuple[float, float]) -> list[int]:
    median, spread = tokens
    return rng.choices(range(_VOCABULARY), k=max(1, round(median * spread ** rng.gauss(0, 1))))


def _message(role: str, words: Sequence[int]) -> dict[str, str]:
    return {"role": role, "content": " ".join(format(word, "03x") for word in words)}
