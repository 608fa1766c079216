"""A pipeline that stores and shares answers in memory, and requests to it."""

import orjson
from accounts_at_hand import AccountsAtHand
from responders import ScriptedResponder
from scripted_upstreams import ScriptedUpstream, ServedBy, Told, router_to, taken
from ticket_rig import CONFIG

from genkan.cache.exact import ExactTier
from genkan.cache.observer import Unobserved
from genkan.cache.scope import Scopes
from genkan.cache.sealer import Sealer
from genkan.config import Config
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.caching import AnswerCache
from genkan.gateway.fallback import Fallback
from genkan.gateway.flights import Flights
from genkan.gateway.pipeline import Pipeline
from genkan.store.memory_answers import MemoryAnswers
from genkan.upstream.base import Answer
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest

SECRET = b"s" * 32


class Looks(Unobserved):
    """A CacheObserver that remembers what requests were through with."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.reasons: list[str] = []

    def looked(self, route: str, result: str) -> None:
        self.results.append(result)

    def not_stored(self, route: str, reason: str) -> None:
        self.reasons.append(reason)


class Rig(AccountsAtHand):
    """A pipeline with answers in memory; ``asked`` counts what its upstreams were asked."""

    def __init__(self, config: Config = CONFIG) -> None:
        super().__init__(config)
        self.looks = Looks()
        exact = ExactTier(
            MemoryAnswers(self.clock, limit_bytes=1 << 20),
            Sealer(SECRET, encrypt=False),
            self.clock,
            self.looks,
            max_answer_bytes=1 << 16,
        )
        self.cache = AnswerCache(
            config.cache,
            answering_identities(config),
            Scopes(SECRET),
            exact,
            Flights(),
            self.clock,
            self.looks,
        )

    def cached(self, first: ServedBy | ScriptedUpstream, second: ServedBy | ScriptedUpstream | None = None) -> Pipeline:
        upstreams = [first, second or ServedBy(ScriptedResponder(), "up-2")]
        fallback = Fallback(self.clock, Told(), self.clock.sleep)
        return Pipeline(router_to(self.config, upstreams, self.meter), fallback, self.admissions, self.cache)


def ask(text: str = "Hi", *, model: str = "big", **fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.from_object({"model": model, "messages": messages, "temperature": 0, **fields})


def caller(number: int) -> Caller:
    return Caller(f"req_{number}", "acme", "key_1")


async def text_of(answer: Answer) -> str:
    """All that it says; it is closed then."""
    try:
        if answer.body is not None:
            return str(orjson.loads(answer.body)["choices"][0]["message"]["content"])
        chunks = [orjson.loads(payload) for payload in await taken(answer)]
        return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])
    finally:
        await answer.aclose()
