"""One answer under way for all requests of this worker that are the same.

Theory. The one that is asked for must not be the one that carries the rest: its client may leave, or read slowly. So
a flight is a task of its own, that asks for one of its passengers and records what comes; every passenger reads the
recording, also the one that was asked for. It ends when all has come, or when the last passenger has left: then the
task is cancelled, and with it what is being generated.

* **Who is asked for** is decided when asking begins, among those that are there; each at most once.
* **An error** that would meet every one of them is told to all. After any other, one more is asked for, as it may have
  been bad luck; the error of that one is told to all that are left. Who was given some of the answer by then gets the
  error at once, as it would have from its upstream: nobody's text ever begins anew.
* **After the end** nobody boards, so that a purge holds at once. Who looked for a stored answer just before there was
  one, and comes here just after, is asked for anew, and has to look again before it asks.
* **Across workers** one flight at a time has the right to ask, and the others record what that one says; see
  `genkan.gateway.flight_relay`. One that says nothing any more is replaced. Without Redis each worker flies by itself.

No clock and no timeouts here: what is asked has its own, and so have other workers.
"""

import asyncio
import logging
from collections.abc import Callable

from genkan.cache.collector import AnswerCollector, Collected
from genkan.errors import InternalError, ServerStopping, StreamInterrupted
from genkan.gateway.boarded import Began
from genkan.gateway.flight_inbox import Inbox, LeaderLost
from genkan.gateway.flight_lock import Hold
from genkan.gateway.flight_message import Kind, Names, read_error
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.passenger import Passenger
from genkan.gateway.recording import Recording
from genkan.gateway.shared_error import is_lasting, twin
from genkan.upstream.base import Answer
from genkan.wire.chat import GenerationRequest

MAX_TRIES = 2
MAX_LOSSES = 3  # of other workers that answered, before this one asks without their leave

_log = logging.getLogger("genkan.gateway")


class Flight:
    """Its passengers, and the task that flies. `add` the first passenger, then `start`, both before any await."""

    __slots__ = (
        "_error", "_followers", "_gone", "_hold", "_is_closed", "_losses", "_on_closed", "_passengers",
        "_relay", "_request", "_task", "_timeout_s", "_tries", "is_following", "key", "recording",
    )  # fmt: skip

    def __init__(
        self,
        key: bytes,
        request: GenerationRequest,
        relay: FlightRelay | None,
        *,
        timeout_s: float,
        on_closed: Callable[["Flight"], None],
    ) -> None:
        """``request`` is any of those that are the same. ``timeout_s`` limits each wait for Redis; 0: there is none.

        ``on_closed`` is called once, when nobody new may board.
        """
        self.key = key
        self.recording = Recording()
        self.is_following = False  # another worker's
        self._request = request
        self._relay = relay
        self._timeout_s = timeout_s
        self._on_closed = on_closed
        self._hold: Hold | None = None
        self._gone = ""  # who held the right to ask and is gone
        self._losses = 0
        self._tries = 0
        self._is_closed = False
        self._error: BaseException | None = None  # what all get that have nothing yet
        self._passengers: dict[Passenger[Began], None] = {}  # in the order in which they boarded
        self._followers = 0  # other workers
        self._task: asyncio.Task[None] | None = None

    @property
    def may_be_boarded(self) -> bool:
        """Whether somebody new gets all of it."""
        return not self._is_closed and self.recording.is_whole

    def start(self) -> "asyncio.Task[None]":
        """Fly."""
        self._task = asyncio.get_running_loop().create_task(self._fly())
        return self._task

    # who is there

    def add(self, passenger: Passenger[Began]) -> None:
        """Only while it `may_be_boarded`."""
        self._passengers[passenger] = None

    def follow(self) -> None:
        """Another worker follows. It counts as a passenger until `unfollow`."""
        self._followers += 1

    async def leave(self, passenger: Passenger[Began]) -> None:
        """A passenger is no longer there; does nothing if it was not.

        The last one ends the flight: returns when everything of it is closed.
        """
        if self._passengers.pop(passenger, self) is not self and not (self._passengers or self._followers):
            await self.end()

    async def unfollow(self) -> None:
        """Another worker follows no longer; as `leave`."""
        self._followers -= 1
        if not (self._passengers or self._followers):
            await self.end()

    async def end(self) -> None:
        """End it, if it is still under way: who is there gets ServerStopping. Returns when its task has ended."""
        task = self._task
        assert task is not None  # see the class
        if not (self.recording.is_over or task.cancelling()):  # a second time would break off its closing
            self.close()
            task.cancel()
        if not task.done():
            await asyncio.wait([task])
        if not self.recording.is_over:  # the task was cancelled before it began
            self._stop(ServerStopping())

    async def embark(self, passenger: Passenger[Began]) -> Recording | None:
        """The recording that has its answer, once there is something of it; None if it must be asked for alone.

        Raises what the flight failed with.
        """
        while True:
            recording = self.recording
            await (recording.something() if passenger.request.stream else recording.over())
            if recording.error is None:
                return recording if passenger.can_read(recording) else None
            if passenger.asked_for is recording:
                raise recording.error
            if self._error is not None:
                raise twin(self._error)

    # the task

    async def _fly(self) -> None:
        try:
            while not (self._is_closed or self.recording.is_over):
                await self._try()
        except asyncio.CancelledError:
            self._stop(ServerStopping())  # by `end`: nobody is there, or the server stops

    async def _try(self) -> None:
        """Ask, or record what another worker says. The flight is closed after that, but for errors like bad luck."""
        recording = self.recording
        try:
            inbox = await self._permission()
            self.is_following = inbox is not None
            if inbox is None:
                await self._lead(recording)
            else:
                await self._listen(inbox, recording)
        except LeaderLost as lost:
            self._gone, self._losses = lost.holder, self._losses + 1
            self._again(recording, StreamInterrupted("The answer was lost on its way.", upstream=""))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._failed(recording, error)  # what was asked cancelled itself
        except Exception as error:  # noqa: BLE001 - a bug in asking is told to who asked, as it is
            self._failed(recording, error)

    async def _permission(self) -> Inbox | None:
        """What another worker says that asks already; None if it is for us to ask."""
        if self._relay is None or self._timeout_s <= 0 or self._hold is not None or self._losses >= MAX_LOSSES:
            return None
        found = await self._relay.take(self.key, over=self._gone, timeout_s=self._timeout_s)
        if isinstance(found, Hold):
            self._hold = found
            return None
        return found

    async def _lead(self, recording: Recording) -> None:
        leader = next((each for each in self._passengers if each.may_lead), None)
        if leader is None:  # who is still there has been given something that broke off
            self._stop(InternalError())
            return
        began = await leader.lead(recording)
        answer = began.answer
        try:
            recording.begin(began.deployment, began.model, answer.body)
            collected = await _recorded(answer, recording, AnswerCollector(self._request))
            _tell(leader, collected)
            self.close()
            recording.end(collected, answer.usage)
        finally:
            await answer.aclose()

    async def _listen(self, inbox: Inbox, recording: Recording) -> None:
        """Record what another worker says of its flight. Raises LeaderLost, or what that one failed with."""
        collector = AnswerCollector(self._request)
        body: list[bytes] = []
        try:
            while (message := await inbox.next()).kind is not Kind.END:
                if message.kind is Kind.BEGUN:
                    names = Names.read(message.body)
                    recording.begin(names.deployment, names.model)
                elif message.kind is Kind.CHUNKS:
                    payloads = message.body.split(b"\n")
                    collector.take(payloads)
                    await recording.take(payloads)
                elif message.kind is Kind.BODY:
                    body.append(message.body)
                elif message.kind is Kind.FAILED:
                    raise read_error(message.body)
            names = Names.read(message.body)
            if body:
                collector.whole(b"".join(body))
            recording.begin(names.deployment, names.model)
            self.close()
            recording.end(collector.result(names.usage), names.usage)
        finally:
            inbox.close()

    # its end

    def _failed(self, recording: Recording, error: BaseException) -> None:
        if recording.is_over:
            _log.error("an answer that had ended could not be closed", exc_info=error)
            return
        self._tries += 1
        if is_lasting(error) or self._tries >= MAX_TRIES:
            self._stop(error)
        else:
            self._again(recording, error)

    def _again(self, recording: Recording, error: BaseException) -> None:
        """Who has got something gets ``error``, and one of the others is asked for next, if there are any."""
        if any(each.may_lead for each in self._passengers):
            self.recording = Recording()
            recording.fail(error)
        else:
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self.close()
        self.recording.fail(error)

    def close(self) -> None:
        """Let nobody new board. Can be called again."""
        if not self._is_closed:
            self._is_closed = True
            if self._hold is not None:
                self._hold.release()
            self._on_closed(self)


async def _recorded(answer: Answer, recording: Recording, collector: AnswerCollector) -> Collected | None:
    """Put all of ``answer`` into ``recording``. What came of it, if it is one plain text."""
    if answer.body is not None:
        collector.whole(answer.body)
    elif (batches := answer.batches) is not None:
        async for batch in batches:
            collector.take(batch)
            await recording.take(batch)
    return collector.result(answer.usage)


def _tell(leader: Passenger[Began], collected: Collected | None) -> None:
    try:
        leader.completed(collected)
    except Exception:  # noqa: BLE001 - the answer is right all the same
        _log.exception("an answer could not be stored")
