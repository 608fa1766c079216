"""An answer that is held back: read to its end, and given again."""

from collections.abc import AsyncGenerator, Callable

from genkan.errors import UpstreamBroken
from genkan.upstream.base import Answer
from genkan.wire.answers import MAX_HELD_BYTES


async def read_out(answer: Answer, priced: Callable[[list[bytes]], list[bytes]]) -> Answer:
    """``answer`` with all of a stream whose choices are over. Raises UpstreamError, also for more than is held."""
    if answer.batches is None:
        return answer
    rest: list[list[bytes]] = []
    size = 0
    async for batch in answer.batches:
        rest.append(batch if answer.usage is None else priced(batch))
        size += sum(map(len, batch))
        if size > 2 * MAX_HELD_BYTES:
            raise UpstreamBroken("The model's answer goes on after its end.", upstream="")
    whole = Answer(batches=_again(rest))
    whole.usage, whole.filtered = answer.usage, True
    return whole


async def _again(batches: list[list[bytes]]) -> AsyncGenerator[list[bytes], None]:
    for batch in batches:
        yield batch
