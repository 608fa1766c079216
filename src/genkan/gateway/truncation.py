"""What a route with ``truncate: oldest`` leaves out of a chat that is too long for its first model's window.

The prompt may take the window but for the answer's room: ``max_tokens``, or, where the client did not say, the model's
usual answer or a quarter of the window, whichever is less. What does not fit goes in this order:

1. The head, what system and developer say before all others, is cut at its end to 30 % of that.
2. The oldest turns go, as few as will do, and of the newest turn the oldest steps; `turns.py` says what those are. A
   system's message amid the chat goes with the turn it stands in.
3. What is left is the least: the head and the newest step. If only the room for an answer whose length nobody asked for
   is wanting, it goes on, and the answer gets less. Else a chain with a larger window gets the chat as it came, for
   fallback to take it there; and without one the client gets a 400.

The client is told by ``x-genkan-truncated: messages=12; tokens=3400``: so many messages are gone, and so many tokens of
the prompt. It is ``tokens=~3400`` where they are not counted but estimated, and ends with ``; system=1`` where the head
was cut.

Prompts are counted as the model's server renders and encodes them, if it can. Where nobody counts, a fifth is added to
what is estimated, and such an estimate refuses nothing: the least goes to the server, which has the last word.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from genkan.config import RouteConfig
from genkan.errors import ContextTooLong
from genkan.gateway.deployment import Deployment
from genkan.gateway.estimate import Estimator, Size, most_prompt_tokens, size_of
from genkan.gateway.fewest import Found, fewest_out
from genkan.gateway.scales import Scales
from genkan.gateway.turns import Message, divided, shortened, text_chars
from genkan.wire.chat import ChatRequest, GenerationRequest

HEADER = b"x-genkan-truncated"
HEAD_SHARE = 0.3
COUNTING_S = 2.0
LATE_REST_S = 10.0
_CLEARLY_TOO_LONG = 4  # windows, of what is guessed: then the whole is not counted, which takes longest of all
_MEASURED = 4  # windows of the newest turns
_AIMS = (0.98, 0.95, 0.9, 0.5, 0.0)  # of the head's room; each but the first for a text that has denser beginnings
_OFF_LOOP_MESSAGES, _OFF_LOOP_TOKENS = 500, 1 << 17  # to measure more would hold up the streams beside it
_A_WORD: Message = {"role": "user", "content": "."}  # templates want one behind a system's message


class Fitted(NamedTuple):
    """A request as it goes on, and what its client is told if that is not all of it."""

    request: GenerationRequest
    header: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class _Rest:
    """What can still be left out of a chat. ``guesses``: the tokens of it, of it without its first piece, and so on."""

    request: ChatRequest
    head: list[Message]
    pieces: list[list[Message]]
    guesses: list[int]
    is_head_cut: bool = False

    def without(self, num_out: int) -> ChatRequest:
        """The request without its first pieces."""
        return _with(self.request, [*self.head, *(one for piece in self.pieces[num_out:] for one in piece)])


class Truncation:
    """Cuts the chats of one route."""

    def __init__(
        self,
        config: RouteConfig,
        tiers: Sequence[Sequence[Deployment]],
        estimator: Estimator,
        counting_s: float = COUNTING_S,
    ) -> None:
        """``tiers``: the deployments of each model of the chain. ``estimator`` is the route's, which learns.

        All counts for one request take ``counting_s`` at most; who has not said by then is not asked for the next
        ``LATE_REST_S`` seconds, so that a server that hangs does not hold up every chat. A window that is not known is
        not cut for.
        """
        first = tiers[0][0]
        self._window = window = first.context_tokens if config.truncate == "oldest" else None
        self._usual_answer = first.max_output_tokens
        self._deployments = tiers[0]
        self._estimator = estimator
        self._counting_s = counting_s
        self._back_at_s: dict[str, float] = {}  # of the deployments that were late
        others = (one.context_tokens for tier in tiers[1:] for one in tier)
        is_outdone = any(window is None or other is None or other > window for other in others)
        self._goes_on = is_outdone and "context_too_long" in config.fallback_on

    async def fitted(self, request: GenerationRequest) -> Fitted:
        """``request``, or what of it fits. Raises ContextTooLong.

        Cost: nothing, but for chats of a route that cuts; `size_of` for one that surely fits, else as a rule one count
        of its prompt if it fits, and two to four if it does not.
        """
        window = self._window
        if window is None or not isinstance(request, ChatRequest):
            return Fitted(request)
        limit = window - self._room(request, window)
        if limit < 1:  # no prompt would do: the model's server says it best
            return Fitted(request)
        size = size_of(request)
        if most_prompt_tokens(size) <= limit:
            return Fitted(request)
        now_s = asyncio.get_running_loop().time
        counters = [one for one in self._deployments if self._back_at_s.get(one.name, 0.0) <= now_s()]
        scales = Scales(counters, self._counting_s)
        try:
            return await self._cut(request, window, limit, size, scales)
        finally:
            if scales.late is not None:
                self._back_at_s[scales.late.name] = now_s() + LATE_REST_S

    def _room(self, request: ChatRequest, window: int) -> int:
        """For the answer."""
        asked = request.sampling
        if asked.max_tokens is not None:
            return asked.max_tokens
        return max(min(self._usual_answer, window // 4), asked.min_tokens)

    async def _cut(self, request: ChatRequest, window: int, limit: int, size: Size, scales: Scales) -> Fitted:
        guess = self._estimator.prompt_tokens(size)
        whole: int | None = None
        if guess <= _CLEARLY_TOO_LONG * limit:
            whole = await scales.weigh(request, guess)
            if whole <= limit:
                return Fitted(request)
        if size.messages > _OFF_LOOP_MESSAGES or most_prompt_tokens(size) > _OFF_LOOP_TOKENS:
            rest = await asyncio.to_thread(self._rest, request, limit)
        else:
            rest = self._rest(request, limit)
        rest = await self._with_less_head(rest, scales, int(HEAD_SHARE * limit))
        found = await fewest_out(
            rest.guesses,
            limit,
            lambda num_out: scales.weigh(rest.without(num_out), rest.guesses[num_out]),
            scales.likely,
            None if rest.is_head_cut else whole,
        )
        if not found.fits:
            least_room = request.sampling.max_tokens or max(request.sampling.min_tokens, 1)
            if found.tokens + least_room > window:
                if self._goes_on:
                    return Fitted(request)
                if scales.is_exact:
                    raise ContextTooLong(
                        limit_tokens=window, prompt_tokens=found.tokens, max_tokens=least_room, param="messages"
                    )
        return self._told(rest, found, scales, guess, whole)

    def _rest(self, request: ChatRequest, limit: int) -> _Rest:
        head, pieces = divided(request.messages)
        bare = replace(request, raw={})
        guesses = [self._guess(replace(request, messages=[*head, *pieces[-1]]))]
        for piece in pieces[-2::-1]:
            # What is far too old is not worth measuring.
            own = self._guess(replace(bare, messages=piece)) if guesses[-1] < _MEASURED * limit else 1
            guesses.append(guesses[-1] + own)
        return _Rest(request, head, pieces, guesses[::-1])

    async def _with_less_head(self, rest: _Rest, scales: Scales, limit: int) -> _Rest:
        """``rest`` with a head of ``limit`` tokens at most, by what it takes in a chat of its own."""
        bare = replace(rest.request, raw={"model": rest.request.model})
        head, alone = rest.head, _with(bare, [*rest.head, _A_WORD])
        if not head:
            return rest
        chars = text_chars(head)
        size = size_of(alone) if chars <= _OFF_LOOP_TOKENS else await asyncio.to_thread(size_of, alone)
        if most_prompt_tokens(size) <= limit:
            return rest
        guess = before = self._estimator.prompt_tokens(size)
        for aim in _AIMS:
            tokens = await scales.weigh(alone, guess)
            if tokens <= limit:
                break
            chars = int(aim * chars * limit / tokens)
            head = shortened(head, chars)
            alone = _with(bare, [*head, _A_WORD])
            guess = self._guess(alone)
        if head == rest.head:
            return rest
        guesses = [max(one - before + guess, 1) for one in rest.guesses]
        return replace(rest, head=head, guesses=guesses, is_head_cut=True)

    def _guess(self, request: ChatRequest) -> int:
        return self._estimator.prompt_tokens(size_of(request))

    def _told(self, rest: _Rest, found: Found, scales: Scales, guess: int, whole: int | None) -> Fitted:
        if not (found.num_out or rest.is_head_cut):
            return Fitted(rest.request)
        request = rest.without(found.num_out)
        messages = len(rest.request.messages) - len(request.messages)
        about = "" if scales.is_exact and whole is not None else "~"
        tokens = max((whole or round(scales.likely(guess))) - found.tokens, 0)
        head = "; system=1" if rest.is_head_cut else ""
        return Fitted(request, (HEADER, f"messages={messages}; tokens={about}{tokens}{head}".encode()))


def _with(request: ChatRequest, messages: list[Message]) -> ChatRequest:
    return replace(request, messages=messages, raw={**request.raw, "messages": messages})
