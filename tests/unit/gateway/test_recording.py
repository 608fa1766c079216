"""One writer, and readers that come and go, each at its own pace."""

import asyncio

import pytest
from flight_asks import settled

from genkan.errors import InternalError, UpstreamFailed
from genkan.gateway.recording import AHEAD_BYTES, KEPT_BYTES, Reader, Recording

pytestmark = pytest.mark.anyio

PIECE = b"x" * 1000


async def write(recording: Recording, pieces: int) -> None:
    for _ in range(pieces):
        await recording.take([PIECE])


async def all_of(reader: Reader) -> list[bytes]:
    payloads: list[bytes] = []
    while (batch := await reader.next()) is not None:
        payloads += batch
    return payloads


async def test_every_reader_gets_all_of_it_in_order() -> None:
    recording = Recording()
    early = asyncio.create_task(all_of(recording.join()))
    await recording.take([b"a", b"b"])
    await settled()
    await recording.take([b"c"])
    late = asyncio.create_task(all_of(recording.join()))
    await settled()
    await recording.take([b"d"])
    recording.end(None, {"total_tokens": 1})
    assert await early == await late == await all_of(recording.join()) == [b"a", b"b", b"c", b"d"]
    assert recording.usage == {"total_tokens": 1}


async def test_what_has_come_is_read_as_one_batch() -> None:
    recording = Recording()
    reader = recording.join()
    await recording.take([b"a"])
    await recording.take([b"b", b"c"])
    assert await reader.next() == [b"a", b"b", b"c"]


async def test_what_came_before_an_error_is_read_first() -> None:
    recording = Recording()
    reader, other = recording.join(), recording.join()
    await recording.take([b"a"])
    error = UpstreamFailed(upstream="up", status_there=500)
    recording.fail(error)
    recording.fail(InternalError())  # it is over
    assert await reader.next() == [b"a"]
    for each in (reader, reader):
        with pytest.raises(UpstreamFailed) as raised:
            await each.next()
        assert raised.value is not error
    assert await other.next() == [b"a"]


async def test_the_writer_waits_for_the_quickest_reader() -> None:
    recording = Recording()
    quick, slow = recording.join(), recording.join()
    writer = asyncio.create_task(write(recording, 1000))
    await settled()
    assert AHEAD_BYTES < len(recording.batches) * len(PIECE) <= AHEAD_BYTES + len(PIECE)
    while not writer.done():
        await quick.next()
        await settled(2)
    recording.end(None, None)
    assert len(await all_of(slow)) == 1000


async def test_the_writer_goes_on_when_its_last_reader_has_left() -> None:
    recording = Recording()
    reader = recording.join()
    writer = asyncio.create_task(write(recording, 1000))
    await settled()
    reader.close()
    reader.close()
    await writer


async def test_the_writer_waits_for_who_is_about_to_read() -> None:
    recording = Recording()

    async def wait_and_read() -> list[bytes]:
        await recording.something()
        return await all_of(recording.join())

    reading = asyncio.create_task(wait_and_read())
    await settled()
    writer = asyncio.create_task(write(recording, 2 * KEPT_BYTES // len(PIECE)))
    await asyncio.sleep(0)
    assert recording.is_whole
    await writer
    recording.end(None, None)
    assert len(await reading) == 2 * KEPT_BYTES // len(PIECE)


async def test_the_writer_goes_on_when_who_was_about_to_read_has_left() -> None:
    recording = Recording()
    waiting = asyncio.create_task(recording.something())
    await settled()
    writer = asyncio.create_task(write(recording, 1000))
    await asyncio.sleep(0)
    assert recording.batches
    waiting.cancel()
    async with asyncio.timeout(5):
        await writer


async def test_the_writer_waits_for_nobody_where_one_waits_for_the_end() -> None:
    recording = Recording()
    reader = recording.join()
    end = asyncio.create_task(recording.over())
    await settled()
    await write(recording, 1000)
    assert not end.done()
    recording.end(None, None)
    await end
    assert len(await all_of(reader)) == 1000


async def test_a_writer_that_waits_goes_on_when_one_comes_who_waits_for_the_end() -> None:
    recording = Recording()
    reader = recording.join()
    writer = asyncio.create_task(write(recording, 1000))
    await settled()
    end = asyncio.create_task(recording.over())
    await writer
    recording.end(None, None)
    await end
    reader.close()


async def test_of_a_long_one_only_what_somebody_has_still_to_read_is_kept() -> None:
    recording = Recording()
    quick, slow = recording.join(), recording.join()
    writer = asyncio.create_task(write(recording, 3 * KEPT_BYTES // len(PIECE)))
    kept = []
    read = 0
    while not writer.done():
        read += len(await quick.next() or []) if quick.read_bytes < recording._total_bytes else 0
        await settled(2)
        kept.append(sum(len(payload) for batch in recording.batches for payload in batch))
        if kept[-1] >= KEPT_BYTES:
            assert not recording.is_whole
            await slow.next()
    assert max(kept) <= KEPT_BYTES + 2 * len(PIECE)
    recording.end(None, None)
    await all_of(slow)
    assert read + len(await all_of(quick)) == 3 * KEPT_BYTES // len(PIECE)


async def test_who_is_cancelled_while_waiting_is_in_nobodys_way() -> None:
    recording = Recording()
    reader = recording.join()
    for waits in (reader.next(), recording.something(), recording.over()):
        task = asyncio.create_task(waits)
        await settled()
        task.cancel()
        await asyncio.wait([task])
    await recording.take([b"a"])
    recording.end(None, None)
    assert await all_of(reader) == [b"a"]
    assert recording.waits_for_end == 0
