"""Generation and embeddings as clients see them, by the names of OpenTelemetry's semantic conventions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

#: Who answers, as the conventions ask: from the client's side that is us, whoever is behind.
PROVIDER: Final = "genkan"
_OTHER: Final = "other"

#: The operation by the conventions' name ("chat", "text_completion", "embeddings"), and the model or route asked for.
Generation = tuple[str, str]


#: Seconds, those to the first token, usage, and whether it is whole; a plain tuple, of which C takes the parts.
_Ended = tuple[float, float | None, Mapping[str, int] | None, bool]
_seconds_of, _usage_of = itemgetter(0), itemgetter(2)
_PROMPT: Final = "prompt_tokens"
_COMPLETION: Final = "completion_tokens"


class GenAiMetrics:
    """Is told of requests that have ended. Cost: 0.3 µs each, and more when they are written:
    0.5 µs each for a hundred whole answers, 3 µs each for ten streams.

    Labels are bounded: a name that is not one of ``names`` is "other".
    """

    def __init__(self, tally: Tally, names: Iterable[str], registry: CollectorRegistry = REGISTRY) -> None:
        """``names`` are those of models and routes."""
        self._tally = tally
        self._names = frozenset(names)
        self._duration = catalog.GEN_AI_DURATION.on(registry)
        self._ttft = catalog.GEN_AI_TTFT.on(registry)
        self._tpot = catalog.GEN_AI_TPOT.on(registry)
        self._tokens = catalog.GEN_AI_TOKENS.on(registry)
        self._truncations = catalog.TRUNCATIONS.on(registry)
        self._of = Bound().of
        self._waiting: defaultdict[tuple[Generation, str], list[_Ended]] = defaultdict(list)
        tally.before_writing(self._write)

    def ended(
        self,
        generation: Generation,
        error: str,
        seconds: float,
        ttft_s: float | None,
        usage: Mapping[str, int] | None,
        is_whole: bool,
    ) -> None:
        """A request has ended, after ``seconds``. Written when the tally writes next.

        ``error`` is our code, or "". ``ttft_s`` is that of a stream that began, ``usage`` what an answer says of its
        tokens, and one that broke off, or whose client left, is not ``is_whole``.
        """
        known = generation if generation[1] in self._names else (generation[0], _OTHER)
        self._waiting[known, error].append((seconds, ttft_s, usage, is_whole))

    def truncated(self, generation: Generation) -> None:
        """The chat was cut."""
        asked = generation[1]
        self._tally.count(self._of(self._truncations, asked if asked in self._names else _OTHER))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, defaultdict(list)
        for ((operation, asked), error), ended in waiting.items():
            labels, add, of = (operation, PROVIDER, asked), self._tally.observe_all, self._of
            add(of(self._duration, *labels, error), [*map(_seconds_of, ended)])
            usages = [*filter(None, map(_usage_of, ended))]
            add(of(self._tokens, *labels, "input"), _counts(usages, _PROMPT))
            if operation != "embeddings":
                add(of(self._tokens, *labels, "output"), _counts(usages, _COMPLETION))
            ttfts = [ttft_s for _, ttft_s, _, _ in ended if ttft_s is not None]
            if ttfts:
                add(of(self._ttft, *labels), ttfts)
                add(of(self._tpot, *labels), [each for each in map(_tpot_s, ended) if each is not None])


def _counts(usages: Sequence[Mapping[str, int]], name: str) -> list[int]:
    try:
        return [*map(itemgetter(name), usages)]
    except KeyError:  # an upstream that does not say
        return [usage[name] for usage in usages if name in usage]


def _tpot_s(ended: _Ended) -> float | None:
    """The mean time of a token after the first; None where there are none, or not all came."""
    seconds, ttft_s, usage, is_whole = ended
    if ttft_s is None or usage is None or not is_whole or (tokens := usage.get(_COMPLETION, 0)) < 2:
        return None
    return (seconds - ttft_s) / (tokens - 1)
