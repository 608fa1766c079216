"""The shortest known way from where an answer is to where it may end."""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from llguidance import LLMatcher, LLTokenizer

from genkan.engine.grammar.token_table import TokenTable

_MAX_VISITS = 64
_MAX_OPTIONS = 8  # letters
_ANY_LETTER = 20  # where more letters than these may follow, one is as good as the other
_LONG = 6  # letters that no name or choice of a grammar begins with by chance
_UNASKED = 2  # forks that a property which no object requires counts for
_TRIED = 4  # tokens
_PREFERRED = b'<,"]}-@.:/ntf['


class _Place(NamedTuple):
    """A state on the way. Of two, the one with fewer ``detours`` goes first, then the one that was found later."""

    detours: int
    order: int
    turns: int  # options that looked better, at all the forks so far, and digits that made a number longer
    state: LLMatcher
    path: tuple[int, ...]
    text: bytes


class ClosingSearch:
    """Finds paths of tokens that close what is open. For one thread at a time."""

    def __init__(self, table: TokenTable, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens = table.tokens
        self._eos_id = table.eos_id
        text = {token: index for index, token in enumerate(table.tokens) if token and index not in table.special}
        closers = [token for token in text if not token.removeprefix(b'"').strip(b"]}") and len(token) <= 6]
        closers.sort(key=lambda token: (-len(token), token))
        self._brackets = [text[token] for token in closers if token[:1] != b'"']
        self._quotes = [text[token] for token in closers if token[:1] == b'"']
        self._letter = text.get(b"z", table.eos_id)
        self._comma = text.get(b",", table.eos_id)
        self._marks = [text[mark] for mark in (b"@", b".", b"-", b":", b"/") if mark in text]
        self._fillers = _fillers(text)
        self._long_fillers = [token for token in self._fillers if len(table.tokens[token]) >= _LONG]
        singles = sorted((token for token in text if len(token) == 1), key=_rank)
        self._letters = [text[token] for token in singles if token.isalpha()]
        self._digits = [text[token] for token in singles if token.isdigit()]
        self._digit_ids = frozenset(self._digits)
        self._others = [text[token] for token in singles if not token.isalnum() and token not in b"[{"]
        self._openers = [text[token] for token in singles if token in b"[{"]

    def path(
        self, start: LLMatcher, limit: int, required: frozenset[str] = frozenset(), *, is_json: bool = True
    ) -> list[int] | None:
        """Few tokens, at most ``limit``, that take ``start``, which stays as it is, to its end. None: none is known.

        The last is the end of the text where the answer could also go on. ``required`` are names of properties that
        had better be taken where others may be left out. Where all ``is_json``, a quote ends a string and may be taken
        without a thought. Cost: 20 µs to 1 ms for what JSON schemas usually leave open,
        and at most 160 states that are looked at.
        """
        later = count(0, -1)
        first = start.deep_copy()
        forced, tokens = self._forced(first)
        if len(tokens) > limit:
            return None
        waiting = [_Place(0, next(later), 0, first, tuple(tokens), forced)]
        for _ in range(_MAX_VISITS):
            if not waiting:
                return None
            place = heapq.heappop(waiting)
            state, path = place.state, place.path
            if state.is_stopped():
                return list(path)
            if state.is_accepting():
                if len(path) < limit:
                    return [*path, self._eos_id]
                continue
            options = self._options(state, is_json)
            for rank in reversed(range(len(options))):  # the best comes last, and so is the first to be followed
                after, token = state.deep_copy(), options[rank]
                if not after.consume_token(token):
                    continue
                forced, more = self._forced(after)
                text, longer = place.text + self._tokens[token] + forced, (*path, token, *more)
                if len(longer) <= limit and not after.is_error():
                    turns = place.turns + rank + (bool(path) and self._goes_on(path[-1], token))
                    detours = turns + _UNASKED * _unasked(text, required)
                    heapq.heappush(waiting, _Place(detours, next(later), turns, after, longer, text))
        return None

    def trial(self, start: LLMatcher) -> str | None:
        """Why nothing can be written from ``start`` on, or not more than a few tokens; None where it can.

        It also has llguidance build what it builds only when it is needed.
        """
        for state in (start.deep_copy(), start.deep_copy()):  # the second meets what the first has used up
            for _ in range(_TRIED):
                state.compute_ff_bytes()
                if not any(state.compute_bitmask()) or state.is_error():
                    return state.get_error() or "nothing satisfies it"
                options = [] if state.is_stopped() else self._options(state, is_json=True)
                if not options:
                    break
                state.consume_token(options[0])
        return None

    def _forced(self, state: LLMatcher) -> tuple[bytes, list[int]]:
        """Take ``state`` to where there is a choice again: what it must write until there."""
        forced = state.compute_ff_bytes()
        tokens = self._tokenizer.tokenize_bytes(forced) if forced else []
        return (forced, tokens) if state.consume_tokens(tokens) else (b"", [])

    def _options(self, state: LLMatcher, is_json: bool) -> list[int]:
        """The tokens worth trying."""
        is_text = self._all_follow(state, self._letter)  # where brackets close nothing
        closers = self._quotes if is_text else (*self._brackets, *self._quotes[-1:])
        first = next((token for token in closers if state.validate_tokens([token])), None)
        if first is not None and is_json:
            return [first]
        if is_text and is_json and self._all_follow(state, *self._marks):
            for token in self._long_fillers:
                if state.validate_tokens([token]):
                    return [token]
        bits = state.compute_bitmask()
        letters, digits, others = (_allowed(bits, ids) for ids in (self._letters, self._digits, self._others))
        if len(letters) > _ANY_LETTER:
            letters = [*_allowed(bits, self._fillers), *letters][:1]
        if self._comma in others and digits:
            return [self._comma]  # a number that is long enough
        openers = _allowed(bits, self._openers)
        if not is_json:
            return [
                *([first] if first is not None else []),
                *others[:_MAX_OPTIONS],
                *digits[:1],
                *letters[:_MAX_OPTIONS],
            ]
        return [*digits[:1], *others, *letters[:_MAX_OPTIONS], *openers, *digits[1:][-1:]]

    def _goes_on(self, before: int, token: int) -> bool:
        """Whether ``token`` only makes longer what could have ended: a number, or text of no form."""
        return before == token or {before, token} <= self._digit_ids

    @staticmethod
    def _all_follow(state: LLMatcher, *tokens: int) -> bool:
        return all(state.validate_tokens([token]) for token in tokens)


def _fillers(text: dict[bytes, int]) -> list[int]:
    """One token of letters for each length, longest first: they fill a string that has a least length."""
    by_length: dict[int, int] = {}
    for token, index in text.items():
        if token.isalpha() and token.islower():
            by_length.setdefault(len(token), index)
    return [by_length[length] for length in sorted(by_length, reverse=True)]


def _rank(single: bytes) -> tuple[int, bytes]:
    place = _PREFERRED.find(single)
    return (place if place >= 0 else len(_PREFERRED)), single


def _allowed(bits: bytes, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if bits[token >> 3] >> (token & 7) & 1]


def _unasked(text: bytes, required: frozenset[str]) -> int:
    names: Sequence[bytes] = text.split(b'":')[:-1]
    return sum(name.rpartition(b'"')[2].decode(errors="replace") not in required for name in names)
