"""A generation as the answer to a request: whole, or as the chunks of a stream."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from genkan.serving.generation import Generation
from genkan.serving.pieces import Piece, Scored, WholeAnswer
from genkan.serving.shapes import Shape
from genkan.upstream.base import Answer

_OFF_LOOP_NAMES = 1000  # of tokens in log probabilities: to write more takes over 1 ms


async def whole(generation: Generation, shape: Shape) -> Answer:
    """All answers as one body."""
    answers = [WholeAnswer() for _ in range(generation.num_answers)]
    async with aclosing(generation.pieces()) as pieces:
        async for piece in pieces:
            answers[piece.answer].take(piece)
    if sum(_num_names(answer.scored) for answer in answers) > _OFF_LOOP_NAMES:
        return Answer(body=await asyncio.to_thread(shape.whole, answers, generation.usage()))
    return Answer(body=shape.whole(answers, generation.usage()))


async def streamed(generation: Generation, shape: Shape, *, with_usage: bool) -> Answer:
    """The answers as a stream, once its first piece is there; what is raised before is raised here."""
    pieces = generation.pieces()
    try:
        first = await anext(pieces)
    except BaseException:
        await pieces.aclose()
        raise
    answer = Answer(batches=_batches(first, pieces, generation, shape, with_usage=with_usage))
    answer.on_close(pieces.aclose)
    return answer


async def _batches(
    first: Piece, rest: AsyncGenerator[Piece, None], generation: Generation, shape: Shape, *, with_usage: bool
) -> AsyncGenerator[list[bytes], None]:
    """The chunks of a stream, a piece's at a time; with the last piece's the usage, if it was asked for."""
    piece: Piece | None = first
    while piece is not None:
        if piece.scored and _num_names(piece.scored) > _OFF_LOOP_NAMES:
            chunks = await asyncio.to_thread(shape.chunks, piece)
        else:
            chunks = shape.chunks(piece)
        if with_usage and generation.is_complete:
            chunks.append(shape.usage(generation.usage()))
        yield chunks
        piece = await anext(rest, None)


def _num_names(scored: Sequence[Scored]) -> int:
    return sum(1 if each.logprobs is None else 1 + len(each.logprobs.top) for each in scored)
