"""What another worker says of its flight, in order, and whether it still says anything."""

import asyncio
import secrets
from collections import deque
from typing import Protocol

from genkan.errors import GenkanError, StoreError
from genkan.gateway.flight_lock import worker_of
from genkan.gateway.flight_message import FOLLOWING_BYTES, Kind, Message
from genkan.gateway.recording import KEPT_BYTES

_SILENCES = 2  # after which a worker that listens is taken for dead


class LeaderLost(GenkanError):
    """Who answered for others has stopped to. ``holder`` is whose lock may be taken over, or empty."""

    def __init__(self, holder: str = "") -> None:
        super().__init__("the worker that answered is gone")
        self.holder = holder


class Asks(Protocol):
    """What an inbox needs to ask for more, and to say that it wants none."""

    worker: str

    async def ask(self, inbox: "Inbox") -> bool:
        """Ask its holder to tell us, unless it does already; whether it listens. Raises StoreError."""

    def say(self, worker: str, message: Message) -> None:
        """Tell another worker something, behind, and perhaps in vain."""

    def forget(self, inbox: "Inbox") -> None:
        """Nothing that comes for it is of interest any more."""


class Inbox:
    """What another worker says of its flight. It holds at most what a recording does."""

    def __init__(self, relay: Asks, key: bytes, holder: str, *, silence_s: float) -> None:
        self.following = secrets.token_bytes(FOLLOWING_BYTES)
        self._relay = relay
        self.key = key
        self.holder = holder
        self._silence_s = silence_s
        self._messages: deque[Message] = deque()
        self._held_bytes = 0
        self._number = 0
        self._lost: LeaderLost | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._has_ended = False
        self._is_closed = False

    def hear(self, message: Message) -> None:
        """Take what was said."""
        if self._lost is not None or message.worker != worker_of(self.holder) or message.key != self.key:
            return
        if message.kind is Kind.GONE:
            self._lost = LeaderLost(self.holder)
        elif message.number != self._number or self._held_bytes > KEPT_BYTES:
            self._lost = LeaderLost()
        else:
            self._number += 1
            self._held_bytes += len(message.body)
            self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Message:
        """What it said next. Raises LeaderLost."""
        silences = 0
        while not self._messages:
            if self._lost is not None:
                raise self._lost
            if not await self._hears():
                silences += 1
                if silences == _SILENCES or not await self._is_there():
                    self._lost = LeaderLost(self.holder)
        message = self._messages.popleft()
        self._held_bytes -= len(message.body)
        self._has_ended = message.kind in (Kind.END, Kind.FAILED)
        return message

    async def _hears(self) -> bool:
        """Whether anything is said before there has been silence for too long."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._silence_s):
                await self._waiter
        except TimeoutError:
            for _ in range(2):  # an event loop that was busy is not a worker that is silent
                await asyncio.sleep(0)
            return bool(self._messages) or self._lost is not None
        return True

    async def _is_there(self) -> bool:
        try:
            return await self._relay.ask(self)
        except StoreError:
            return False

    def close(self) -> None:
        """Follow no longer. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._relay.forget(self)
            if self._lost is None and not self._has_ended:
                leave = Message(Kind.LEAVE, self.key, self._relay.worker, self.following)
                self._relay.say(worker_of(self.holder), leave)
