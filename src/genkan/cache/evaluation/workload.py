"""Questions as a support desk gets them: a few intents most of the time, in words that vary.

Each request draws an intent by Zipf's law, whose ranks are shuffled, and one of its phrasings at random. It is asked of
the tiers themselves, and what is not found is stored. The answer of another intent is wrong.
"""

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from genkan.cache.evaluation.compared import Embed
from genkan.cache.exact import ExactTier
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.normalise import canonical
from genkan.cache.observer import Unobserved
from genkan.cache.scope import Scope, Scopes
from genkan.cache.score import Score
from genkan.cache.sealer import Sealer
from genkan.cache.semantic import SemanticTier
from genkan.cache.stored_answer import StoredAnswer
from genkan.clock import SystemClock
from genkan.config import RouteCacheConfig
from genkan.store.memory_answers import MemoryAnswers
from genkan.wire.chat import ChatRequest
from genkan.wire.usage import Usage

Vector = NDArray[np.float32]

_PATIENCE_S = 60.0  # nothing is to be a miss because this machine is busy
_TTL_S = 86_400.0


class _Owner(TypedDict):
    tenant: str
    route: str


_OWNER: Final[_Owner] = {"tenant": "desk", "route": "support"}


class Phrasing(NamedTuple):
    """One way to ask for something."""

    intent: str
    language: str
    text: str


class Wrong(NamedTuple):
    """A request that got the answer of a question of another intent."""

    asked: Phrasing
    question: str
    intent: str


class Outcome(NamedTuple):
    """What became of the requests of a workload."""

    requests: int
    exact: int
    normalised: int
    semantic: int  # wrong ones included
    wrong: tuple[Wrong, ...]

    @property
    def hit_rate(self) -> float:
        """Served, of all."""
        return (self.exact + self.normalised + self.semantic) / self.requests

    @property
    def semantic_rate(self) -> float:
        """Served, of those that no tier before had: questions in words that were never used."""
        return self.semantic / max(1, self.requests - self.exact - self.normalised)


def read_phrasings(path: Path) -> list[Phrasing]:
    """JSON lines with intent, language and text. ValueError: a line is none; OSError: the file cannot be read."""
    phrasings = list[Phrasing]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found = json.loads(line)
            phrasings.append(Phrasing(str(found["intent"]), str(found["language"]), str(found["text"])))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number}: must have intent, language and text") from None
    return phrasings


def zipf(phrasings: Sequence[Phrasing], *, requests: int, seed: int, exponent: float = 1.0) -> list[Phrasing]:
    """So many requests; the same for the same seed."""
    random = np.random.default_rng(seed)
    of_intent = dict[str, list[Phrasing]]()
    for phrasing in phrasings:
        of_intent.setdefault(phrasing.intent, []).append(phrasing)
    intents = sorted(of_intent)
    random.shuffle(intents)
    weights = np.arange(1, len(intents) + 1) ** -exponent
    drawn = random.choice(len(intents), size=requests, p=weights / weights.sum())
    return [(ways := of_intent[intents[one]])[random.integers(len(ways))] for one in drawn.tolist()]


async def run(requests: Sequence[Phrasing], embed: Embed, score: Score, *, max_error_rate: float) -> Outcome:
    """What an empty cache makes of the requests, one after the other. Cost: some 1 ms a request, vectors apart."""
    texts = list(dict.fromkeys(canonical(request.text) for request in requests))
    desk = _Desk(dict(zip(texts, embed(texts), strict=True)), score, max_error_rate)
    for request in requests:
        await desk.ask(request)
    tiers = desk.tiers
    return Outcome(len(requests), tiers["exact"], tiers["normalised"], tiers["semantic"], tuple(desk.wrong))


class _Desk:
    """The tiers as the gateway has them, but for Redis: in this process. An answer's text is its intent."""

    def __init__(self, vectors: Mapping[str, Vector], score: Score, max_error_rate: float) -> None:
        clock, observer = SystemClock(), Unobserved()
        answers = MemoryAnswers(clock, limit_bytes=64 << 20)
        sealer = Sealer(secrets.token_bytes(32), encrypt=False)
        self._vectors = vectors
        self._settings = RouteCacheConfig(semantic="on", max_error_rate=max_error_rate)
        self._scopes = Scopes(secrets.token_bytes(32))
        self._exact = ExactTier(answers, sealer, clock, observer, max_answer_bytes=1 << 20)
        index = MemoryIndex(clock, observer, max_entries=100_000)
        self._semantic = SemanticTier(index, self._vector, self._exact, score, clock=clock, observer=observer)
        self.tiers = Counter[str]()
        self.wrong = list[Wrong]()

    async def ask(self, asked: Phrasing) -> None:
        """Answer it from what is stored, or store it."""
        request = _request(asked.text)
        scope = self._scopes.of(request, **_OWNER, models=b"", normalised=True, per_user=False)
        look = self._exact.look(scope, **_OWNER, timeout_s=_PATIENCE_S)
        hit, sought = await look.found(), None
        if hit is None:
            sought = await self._semantic.find(request, scope, self._settings, **_OWNER, timeout_s=_PATIENCE_S)
            hit = sought.hit
        if hit is not None:
            self.tiers[hit.tier] += 1
            if hit.answer.text != asked.intent:
                self.wrong.append(Wrong(asked, hit.answer.question, hit.answer.text))
        elif sought is not None:
            answer = _answer(asked, scope)
            look.put(answer, ttl_s=_TTL_S)
            await self._semantic.learn(sought, answer)

    async def _vector(self, text: str, timeout_s: float) -> Vector:
        return self._vectors[text]


def _request(text: str) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.from_object({"model": "support", "temperature": 0, "messages": messages})


def _answer(asked: Phrasing, scope: Scope) -> StoredAnswer:
    now_s = SystemClock().unix()
    return StoredAnswer(
        is_chat=True,
        text=asked.intent,
        model="support",
        usage=Usage(10, 5, 0),
        created_s=int(now_s),
        deployment="support@desk",
        question=asked.text,
        partition=scope.partition,
        exact=scope.exact,
        key=scope.key,
        stored_s=now_s,
        expires_s=now_s + _TTL_S,
    )
