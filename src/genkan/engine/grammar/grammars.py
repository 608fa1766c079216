"""Compiles grammars beside the event loop, once each, and within limits."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from llguidance import LLMatcher, LLParserLimits

from genkan.engine.grammar.closing import ClosingSearch
from genkan.engine.grammar.guided import GuidedMatcher, Vocabulary, plain
from genkan.engine.grammar.matcher import Matcher
from genkan.engine.grammar.observer import GrammarObserver, GrammarResult, NobodyWatches
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.grammar.wording import Wording, worded
from genkan.errors import EngineOverloaded, EngineUnavailable, InvalidRequest

_THREADS = 2
_MAX_FLIGHTS = 64
#: A fifth of llguidance's own: what needs more is hostile, or would hold up the steps of everybody. At these, the worst
#: that was found compiles in 1.1 s and holds up one step by 0.1 s (see ``tests/unit/engine/grammar/test_bombs.py``).
_LIMITS = {
    "initial_lexer_fuel": 200_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
    "max_lexer_states": 100_000,
    "max_grammar_size": 200_000,
}


class CompiledGrammar:
    """A grammar that answers can be matched against."""

    def __init__(self, root: LLMatcher, vocabulary: Vocabulary, wording: Wording, begun: Sequence[int] = ()) -> None:
        """``begun`` are the tokens that ``root`` has taken already."""
        self._root = root
        self._vocabulary = vocabulary
        self._wording = wording
        self._begun = begun

    def matcher(self) -> Matcher:
        """One at the grammar's beginning, for one answer. Cost: 10 µs, and 1 µs for each token begun with."""
        return GuidedMatcher(self._root.deep_copy(), self._vocabulary, self._wording, self._begun)

    def after(self, ids: Sequence[int]) -> "CompiledGrammar":
        """The same for answers that go on from ``ids``. Raises InvalidRequest where no answer begins so.

        Cost: 5 µs a token.
        """
        root = self._root.deep_copy()
        if not root.consume_tokens(list(ids)):
            raise InvalidRequest(
                f"'continue_text' does not begin an answer of the form that is asked for: {plain(root.get_error())}",
                param="continue_text",
            )
        return CompiledGrammar(root, self._vocabulary, self._wording, ids)


@dataclass(slots=True)
class _Flight:
    """One compilation and how many wait for it."""

    result: asyncio.Future[CompiledGrammar | str]
    waiting: int = 0


class Grammars:
    """The grammars of one model. For one event loop.

    Threads cannot be killed, so at most two compile, what they compile is bounded by llguidance's own limits, and who
    asks waits for no longer than ``timeout_s``, for a free thread included. The last ``cache`` grammars are
    kept, those that cannot be included, so that they fail at once when they are sent again.
    """

    def __init__(
        self,
        table: TokenTable,
        *,
        timeout_s: float,
        max_bytes: int,
        cache: int,
        vocab_size: int,
        observer: GrammarObserver | None = None,
    ) -> None:
        """``vocab_size`` is that of the model's head, which may have rows beyond the table. Costs 0.3 s."""
        if len(table.tokens) > vocab_size:
            raise ValueError(f"{len(table.tokens)} tokens, but the model has {vocab_size} rows of logits")
        self._tokenizer = table.tokenizer()
        closing = ClosingSearch(table, self._tokenizer)
        self._vocabulary = Vocabulary.of(table, closing)
        self._observer = observer or NobodyWatches()
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_cached = cache
        self._cached: OrderedDict[GrammarSpec, CompiledGrammar | str] = OrderedDict()
        self._flights: dict[GrammarSpec, _Flight] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grammar")
        self._is_closed = False

    async def compiled(self, spec: GrammarSpec, param: str = "response_format") -> CompiledGrammar:
        """The grammar ``spec`` describes.

        Raises InvalidRequest, with ``param``, where it is too large or too complex, takes too long or cannot be
        honoured, EngineOverloaded where too many others are being compiled, and EngineUnavailable after ``close``.
        """
        if self._is_closed:
            raise EngineUnavailable("The engine is stopping.")
        if len(spec.text) > self._max_bytes or len(spec.text.encode(errors="surrogatepass")) > self._max_bytes:
            self._observer.grammar_asked("refused")
            raise InvalidRequest(f"The grammar or schema is longer than {self._max_bytes} bytes.", param=param)
        found = self._cached.get(spec)
        result: GrammarResult = "compiled" if found is None else "cached"
        if found is None:
            found = await self._flown(spec, param)
        else:
            self._cached.move_to_end(spec)
        if isinstance(found, str):
            self._observer.grammar_asked("refused")
            raise InvalidRequest(f"Invalid {_NAMES[spec.kind]}: {found}", param=param)
        self._observer.grammar_asked(result)
        return found

    def close(self) -> None:
        """Compile nothing more; what is being compiled ends by itself."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _flown(self, spec: GrammarSpec, param: str) -> CompiledGrammar | str:
        flight = self._flights.get(spec) or self._started(spec)
        flight.waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(flight.result)
        except TimeoutError:
            self._observer.grammar_asked("timed_out")
            message = f"The grammar or schema takes longer than {self._timeout_s:g} s to compile."
            raise InvalidRequest(message, param=param) from None
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.result.cancel()  # if no thread has begun it, none will

    def _started(self, spec: GrammarSpec) -> _Flight:
        if len(self._flights) >= _MAX_FLIGHTS:
            self._observer.grammar_asked("overloaded")
            raise EngineOverloaded("Too many grammars are being compiled.")
        result = asyncio.get_running_loop().run_in_executor(self._threads, self._compile, spec)
        flight = self._flights[spec] = _Flight(result)
        result.add_done_callback(lambda result: self._landed(spec, result))
        return flight

    def _landed(self, spec: GrammarSpec, result: "asyncio.Future[CompiledGrammar | str]") -> None:
        del self._flights[spec]
        if result.cancelled() or result.exception() is not None:
            return
        self._cached[spec] = result.result()
        if len(self._cached) > self._max_cached:
            self._cached.popitem(last=False)

    def _compile(self, spec: GrammarSpec) -> CompiledGrammar | str:
        """The grammar, or what is wrong with it. Runs in a thread."""
        began_s = time.monotonic()
        try:
            return self._found(spec)
        finally:
            self._observer.grammar_compiled(time.monotonic() - began_s)

    def _found(self, spec: GrammarSpec) -> CompiledGrammar | str:
        try:
            wording = worded(spec, self._tokens_of)
        except ValueError as error:
            return plain(str(error))
        limits = LLParserLimits(verbose_errors=False, **_LIMITS)
        root = LLMatcher(self._tokenizer, wording.text, log_level=0, limits=limits)
        if root.is_error():
            return plain(root.get_error())
        return self._vocabulary.closing.trial(root) or CompiledGrammar(root, self._vocabulary, wording)

    def _tokens_of(self, text: str) -> int:
        return len(self._tokenizer.greedy_tokenize(text))


_NAMES = {
    "json_object": "schema",
    "json_schema": "schema",
    "regex": "regular expression",
    "choice": "list of choices",
    "lark": "grammar",
}
