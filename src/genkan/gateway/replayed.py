"""A stored answer in the place of one that an upstream gives."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

from genkan.cache import replay
from genkan.cache.stored_answer import StoredAnswer
from genkan.upstream.base import Answer
from genkan.wire.chat import GenerationRequest

_AT_ONCE = 16  # batches, of some words each: a fraction of a millisecond's work


def replayed(stored: StoredAnswer, request_id: str, request: GenerationRequest) -> Answer:
    """``stored`` as ``request`` asked for it, whole or streamed. A long stream lets others work in between."""
    if request.stream:
        batches = replay.chunks(stored, request_id, include_usage=request.include_usage)
        answer = Answer(batches=_given(batches))
    else:
        answer = Answer(body=replay.body(stored, request_id))
    answer.usage = replay.usage(stored)
    return answer


async def _given(batches: Iterator[list[bytes]]) -> AsyncGenerator[list[bytes], None]:
    for number, batch in enumerate(batches, 1):
        yield batch
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
