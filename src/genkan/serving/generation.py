"""All answers to one request, of all its prompts, as they come from the engine."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from genkan.engine.sequence import Token
from genkan.serving.answering import Answering
from genkan.serving.echo import Echo
from genkan.serving.pieces import Piece, Usage

Tokens = AsyncGenerator[Token, None]


class Generation:
    """The answers to one request: those to the first prompt, then those to the second, and so on."""

    def __init__(
        self,
        tokens: Tokens | None,
        answers: Sequence[Answering],
        *,
        prompt_tokens: int,
        per_prompt: int,
        continued_tokens: int = 0,
    ) -> None:
        """``tokens`` say whose they are by their place among ``answers``, ``per_prompt`` of which share a prompt.

        None: the answer, which is the only one, has begun with all the tokens that it may have. ``continued_tokens`` of
        the prompt's are that beginning.
        """
        self._tokens = tokens
        self._answers = answers
        self._prompt_tokens = prompt_tokens
        self._per_prompt = per_prompt
        self._continued_tokens = continued_tokens
        self._num_left = len(answers)
        self._cached_tokens = 0

    @property
    def num_answers(self) -> int:
        return len(self._answers)

    @property
    def is_complete(self) -> bool:
        """Whether the piece that was given last is the last of all."""
        return not self._num_left

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Pieces of the answers as they become clear. Closing it cancels what is still being generated.

        Ends with the last answer, also where the engine would go on beyond a stop string.
        """
        if self._tokens is None:
            self._num_left = 0
            yield self._answers[0].cut()
            return
        async with aclosing(self._tokens) as tokens:
            async for token in tokens:
                answer = self._answers[token.answer]
                if not answer.num_tokens and token.answer % self._per_prompt == 0:  # the others find its pages
                    self._cached_tokens += token.cached_tokens
                piece = answer.take(token)
                if piece is None:
                    continue
                self._num_left -= piece.reason is not None
                yield piece
                if self.is_complete:
                    return

    def usage(self) -> Usage:
        """The tokens so far. Each prompt counts once, and every token of its answers that was looked at."""
        completion_tokens = sum(answer.num_tokens for answer in self._answers)
        return Usage(self._prompt_tokens, completion_tokens, self._cached_tokens, self._continued_tokens)


async def merged(sources: Sequence[Tokens], per_source: int) -> Tokens:
    """The tokens of several prompts, each as soon as it is there, with their answers numbered through.

    What one raises ends all. A reader that stops reading stops the sources, so that the engine's own limit for slow
    readers holds.
    """
    arrived: asyncio.Queue[Token | Exception | None] = asyncio.Queue(maxsize=len(sources))

    async def pump(source: Tokens, first: int) -> None:
        try:
            async with aclosing(source):
                async for token in source:
                    await arrived.put(token._replace(answer=first + token.answer))
        except Exception as error:  # noqa: BLE001 - raised to the reader, whatever it is
            await arrived.put(error)
        else:
            await arrived.put(None)

    pumps = [asyncio.create_task(pump(source, place * per_source)) for place, source in enumerate(sources)]
    try:
        left = len(pumps)
        while left:
            item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def after_prompts(tokens: Tokens, echoes: Sequence[Echo], per_prompt: int) -> Tokens:
    """``tokens``, those of each prompt once its log probabilities are there: they come with its answer 0 only."""
    held: list[list[Token]] = [[] for _ in echoes]
    async with aclosing(tokens):
        async for token in tokens:
            place = token.answer // per_prompt
            if token.prompt_logprobs is not None:
                echoes[place].logprobs = token.prompt_logprobs
            held[place].append(token)
            if echoes[place].logprobs is not None:
                ready, held[place] = held[place], []
                for each in ready:
                    yield each
