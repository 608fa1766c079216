"""One connection, without a socket: who gets which reply, what waits for how long, and what ends it."""

import asyncio
import gc
import time
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS, MemoryTransport, turns
from redis_faults import until

from genkan.errors import StoreLost, StoreRefused, StoreTimeout
from genkan.store import connection as connection_module
from genkan.store.command import packed
from genkan.store.connection import MAX_TIMEOUTS, MAX_WAITING, Connection

pytestmark = pytest.mark.anyio

GET = packed("GET", "a")


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class CountingTransport(MemoryTransport):
    """Counts the writes."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self.writes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.writes += 1


class Line:
    """A connection, its other end, and the reasons for which it was lost."""

    def __init__(self, *, silence_s: float = 60.0) -> None:
        self.reasons: list[str] = []
        self.connection = Connection(silence_s=silence_s, on_lost=self.reasons.append)
        self.transport = CountingTransport(self.connection)

    def call(self, command: bytes = GET, timeout_s: float = 60.0) -> "asyncio.Future[Any]":
        return self.connection.send(command, timeout_s)

    def pipeline(self, *commands: bytes, timeout_s: float = 60.0) -> "asyncio.Future[list[Any]]":
        return self.connection.pipeline(commands, timeout_s)


async def test_calls_of_one_turn_are_written_together() -> None:
    line = Line()
    calls = [line.call(packed("GET", number)) for number in range(3)]
    await turns()
    assert line.transport.written == b"".join(packed("GET", number) for number in range(3))
    assert line.transport.writes == 1
    line.transport.send(b"$1\r\na\r\n$-1\r\n:7\r\n")
    assert await asyncio.gather(*calls) == [b"a", None, 7]


async def test_replies_are_the_same_however_they_are_cut() -> None:
    replies = b"+OK\r\n$4\r\n\r\n\x00x\r\n*2\r\n:1\r\n*1\r\n$-1\r\n-ERR no\r\n"
    line = Line()
    calls = [line.call() for _ in range(4)]
    await turns()
    for position in range(len(replies)):
        line.transport.send(replies[position : position + 1])
    *fine, refused = await asyncio.gather(*calls, return_exceptions=True)
    assert fine == [b"OK", b"\r\n\x00x", [1, [None]]]
    assert isinstance(refused, StoreRefused)
    assert (str(refused), refused.code) == ("ERR no", "ERR")
    assert line.reasons == []


async def test_an_error_that_is_no_text_is_an_error_all_the_same() -> None:
    line = Line()
    call = line.call()
    await turns()
    line.transport.send(b"-ERR \xff\xfe\r\n")
    with pytest.raises(StoreRefused, match="ERR"):
        await call


async def test_the_reply_to_a_cancelled_call_is_given_to_nobody() -> None:
    line = Line()
    first, second, third = line.call(), line.call(), line.call()
    await turns()
    second.cancel()
    await turns()
    line.transport.send(b"+1\r\n+2\r\n+3\r\n")
    assert (await first, await third) == (b"1", b"3")
    assert second.cancelled()


async def test_a_late_reply_is_given_to_nobody() -> None:
    line = Line()
    late = line.call(timeout_s=0.01)
    with pytest.raises(StoreTimeout):
        await late
    later = line.call()
    await turns()
    line.transport.send(b"+late\r\n+later\r\n")
    assert await later == b"later"
    assert line.reasons == []


async def test_a_call_with_a_shorter_timeout_does_not_wait_for_one_with_a_longer() -> None:
    line = Line()
    patient = line.call()
    await turns()
    with pytest.raises(StoreTimeout):
        await line.call(timeout_s=0.01)
    line.transport.send(b"+patient\r\n+late\r\n")
    assert await patient == b"patient"


async def test_a_pipeline_has_its_errors_among_its_replies() -> None:
    line = Line()
    before, several, after = line.call(), line.pipeline(GET, GET, GET), line.call()
    await turns()
    line.transport.send(b"+before\r\n+1\r\n-NOSCRIPT no\r\n")
    await turns()
    assert not several.done()
    line.transport.send(b"+3\r\n+after\r\n")
    first, error, third = await several
    assert (first, third) == (b"1", b"3")
    assert isinstance(error, StoreRefused)
    assert (await before, await after) == (b"before", b"after")


async def test_a_pipeline_of_nothing_asks_nothing() -> None:
    line = Line()
    assert await line.pipeline() == []
    assert line.transport.written == b""


async def test_five_timeouts_in_a_row_end_the_connection() -> None:
    line = Line()
    calls = [line.call(timeout_s=0.01) for _ in range(MAX_TIMEOUTS)]
    patient = line.call()
    failures = await asyncio.gather(*calls, patient, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreTimeout] * MAX_TIMEOUTS + [StoreLost]
    assert len(line.reasons) == 1
    assert line.transport.is_closing()
    with pytest.raises(StoreLost):
        await line.call()


async def test_what_was_never_sent_is_known_not_to_have_been_done() -> None:
    line = Line()
    sent = line.call()
    await turns()
    unsent = line.call()
    line.connection.drop("enough")
    failures = await asyncio.gather(sent, unsent, return_exceptions=True)
    assert [isinstance(failure, StoreLost) and failure.was_sent for failure in failures] == [True, False]


async def test_a_reply_in_time_ends_the_row() -> None:
    line = Line()
    for _ in range(2):
        calls = [line.call(timeout_s=0.01) for _ in range(MAX_TIMEOUTS - 1)]
        await asyncio.gather(*calls, return_exceptions=True)
        call = line.call()
        await turns()
        line.transport.send(b"+x\r\n" * MAX_TIMEOUTS)
        assert await call == b"x"
    assert line.reasons == []


async def test_silence_ends_the_connection_even_if_nobody_waits_any_more() -> None:
    line = Line(silence_s=0.02)
    call = line.call(timeout_s=0.01)
    await turns()
    call.cancel()
    await until(lambda: line.reasons)
    assert line.reasons == ["it does not answer"]


async def test_silence_is_no_matter_while_nothing_was_asked() -> None:
    line = Line(silence_s=0.02)
    call = line.call()
    await turns()
    line.transport.send(b"+x\r\n")
    assert await call == b"x"
    await until(lambda: line.connection._timer is None)  # it has looked, and saw no reason to look again
    assert line.reasons == []


async def test_a_call_that_may_take_longer_than_the_silence_does() -> None:
    line = Line(silence_s=0.02)
    began_s = time.monotonic()
    with pytest.raises((StoreTimeout, StoreLost)):
        await line.call(timeout_s=0.2)
    assert time.monotonic() - began_s >= 0.19  # uvloop's clock ticks in milliseconds


async def test_so_many_wait_and_no_more() -> None:
    line = Line()
    calls = [line.call() for _ in range(MAX_WAITING)]
    await turns()
    with pytest.raises(StoreLost):
        await line.call()
    line.transport.send(b"+x\r\n")
    await turns()
    calls.append(line.call())
    await turns()
    line.transport.send(b"+x\r\n" * MAX_WAITING)
    assert await asyncio.gather(*calls) == [b"x"] * (MAX_WAITING + 1)


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n", b"\x00\xff" * 100, b"$x\r\n", b"*-5\r\n"])
async def test_what_is_not_redis_is_hung_up_on(said: bytes) -> None:
    line = Line()
    calls = [line.call(), line.call()]
    await turns()
    line.transport.send(said)
    for failure in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(failure, StoreLost)
    assert line.reasons == ["it does not speak Redis' protocol"]


async def test_what_nobody_asked_for_is_hung_up_on() -> None:
    line = Line()
    line.transport.send(b"+hello\r\n")
    assert line.reasons == ["it said something unasked"]


async def test_what_nobody_asked_for_goes_to_who_listens() -> None:
    line = Line()
    pushes: list[Any] = []
    line.connection.on_push = pushes.append
    line.transport.send(b"*1\r\n+a\r\n*1\r\n+b\r\n")
    assert pushes == [[b"a"], [b"b"]]
    assert line.reasons == []


async def test_a_reply_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_REPLY_BYTES", 1000)
    line = Line()
    call = line.call()
    await turns()
    line.transport.send(b"$999999\r\n")
    line.transport.send(b"x" * 1000)
    with pytest.raises(StoreLost):
        await call


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_connection_that_ends_within_a_reply_fails_all_calls_once(end: str) -> None:
    line = Line()
    calls = [line.call(), line.pipeline(GET, GET), line.call()]
    await turns()
    line.transport.send(b"+whole\r\n+1\r\n$10\r\nhal")
    getattr(line.transport, end)()
    whole, *broken = await asyncio.gather(*calls, return_exceptions=True)
    assert whole == b"whole"
    assert [type(failure) for failure in broken] == [StoreLost, StoreLost]
    await line.connection.closed
    assert len(line.reasons) == 1


@pytest.mark.parametrize(
    "error",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ],
)
async def test_who_says_that_another_is_to_be_asked_is_left(error: bytes) -> None:
    line = Line()
    refused, lost = line.call(), line.call()
    await turns()
    line.transport.send(error)
    with pytest.raises(StoreRefused):
        await refused
    with pytest.raises(StoreLost):
        await lost
    assert len(line.reasons) == 1


async def test_who_says_so_in_a_pipeline_is_left_too() -> None:
    line = Line()
    pipeline = line.pipeline(GET, GET)
    await turns()
    line.transport.send(b"-READONLY no\r\n+x\r\n")
    assert [type(reply) for reply in await pipeline] == [StoreRefused, bytes]
    assert len(line.reasons) == 1


async def test_what_is_called_after_the_end_fails_at_once_and_what_was_not_written_is_never() -> None:
    line = Line()
    call = line.call()
    line.connection.drop("enough")
    line.connection.drop("again")
    with pytest.raises(StoreLost, match="enough"):
        await call
    await turns()
    assert line.transport.written == b""
    assert line.reasons == ["enough"]


async def test_nothing_is_left_behind() -> None:
    """Neither a timer nor a call, so that a connection that was dropped can be freed."""
    line = Line()
    call = line.call(timeout_s=30)
    await turns()
    line.connection.drop("enough")
    with pytest.raises(StoreLost):
        await call
    await line.connection.closed
    del call
    gc.collect()
    handles = getattr(asyncio.get_running_loop(), "_scheduled", ())
    ours = [handle for handle in handles if getattr(handle._callback, "__self__", None) is line.connection]
    assert [handle for handle in ours if not handle.cancelled()] == []
    assert [thing for thing in gc.get_objects() if type(thing) is connection_module._Call] == []
