"""How flights of several workers become one, by way of Redis.

Theory. The worker that has a request's lock asks; the others say "follow" on its channel, and it tells each of them on
theirs all that has come so far, then what comes, then the end; when nothing comes it says that it is alive. Channels
lose what is published while nobody listens, and tell how many do: so nobody is waited for who is dead or cut off.

* A holder whose channel nobody listens to has died: its lock is taken over at once.
* One that says nothing for `silence_s` is asked again, and so found dead or alive; one that says nothing for twice as
  long hangs, and is taken for dead.
* A message that is missing or out of order ends the following as silence does.

Redis gone or slow only ever means that a worker asks by itself. Nothing is kept in Redis but the locks. Cost: a request
for which nobody else waits takes one round trip before and one command behind.
"""

import asyncio
import secrets
from collections.abc import Callable

from genkan.cache.sealer import Sealer
from genkan.errors import StoreError
from genkan.gateway.broadcast import Broadcast, Followed, FollowerLost
from genkan.gateway.flight_inbox import Inbox
from genkan.gateway.flight_lock import FlightLocks, Hold, worker_of
from genkan.gateway.flight_message import WORKER_CHARS, Kind, Message
from genkan.store.address import Address
from genkan.store.command import packed
from genkan.store.resp import RespClient
from genkan.store.subscription import Subscription

MAX_FOLLOWINGS = 1000  # of other workers', at a time
_BEATS = 3  # within a silence that counts


class FlightRelay:
    """What the flights of one worker need of the others. `start` first, `aclose` at the end."""

    def __init__(
        self,
        client: RespClient,
        address: Address,
        sealer: Sealer,
        *,
        prefix: str,
        connect_s: float,
        timeout_s: float,
        silence_s: float = 1.0,
    ) -> None:
        """``client`` is a client of the Redis at ``address``, where a connection more is made to listen."""
        self.worker = secrets.token_hex(WORKER_CHARS // 2)
        self._client = client
        self._sealer = sealer
        self._channels = f"{prefix}:flights:"
        self._silence_s = silence_s
        self._locks = FlightLocks(client, prefix=prefix, worker=self.worker)
        self._find: Callable[[bytes], Followed | None] = _nothing
        self._inboxes: dict[bytes, Inbox] = {}
        self._broadcasts: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        self._subscription = Subscription(
            address,
            self._channels + self.worker,
            connect_s=connect_s,
            timeout_s=timeout_s,
            on_message=self._heard,
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, followed or told."""
        return not (self._locks.count or self._inboxes or self._broadcasts)

    async def start(self, find: Callable[[bytes], Followed | None]) -> None:
        """Begin to listen. ``find`` gives the flight of a key that others may follow. Raises nothing."""
        self._find = find
        self._locks.start()
        await self._subscription.start()

    async def aclose(self) -> None:
        """Tell what is still to be told of flights that have ended, and go."""
        if self._broadcasts:
            _, late = await asyncio.wait([*self._broadcasts.values()], timeout=self._silence_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._locks.aclose()
        await self._subscription.aclose()

    async def take(self, key: bytes, *, over: str, timeout_s: float) -> Hold | Inbox | None:
        """The right to ask, or what the one says that has it; None if others cannot be asked.

        ``over`` is a holder that is gone. Takes ``timeout_s`` at most. Raises nothing.
        """
        if not (self._client.is_connected and self._subscription.is_connected):
            return None  # nobody could follow
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        try:
            holder = await self._locks.take(key, over=over, timeout_s=timeout_s)
            if holder is not None:
                inbox = await self._follow(key, holder, timeout_s=max(until_s - loop.time(), 0.001))
                if inbox is not None:
                    return inbox
                left_s = max(until_s - loop.time(), 0.001)
                holder = await self._locks.take(key, over=holder, timeout_s=left_s)
        except StoreError:
            return None
        return Hold(self._locks, key) if holder is None else None

    # following

    async def _follow(self, key: bytes, holder: str, *, timeout_s: float) -> Inbox | None:
        """What the holder says from now on; None if it does not listen. Raises StoreError."""
        inbox = Inbox(self, key, holder, silence_s=self._silence_s)
        self._inboxes[inbox.following] = inbox
        try:
            if await self.ask(inbox, timeout_s=timeout_s):
                return inbox
        except BaseException:
            inbox.close()
            raise
        self.forget(inbox)
        return None

    async def ask(self, inbox: Inbox, *, timeout_s: float | None = None) -> bool:
        """Ask its holder to tell us, unless it does already; whether it listens. Raises StoreError."""
        message = Message(Kind.FOLLOW, inbox.key, self.worker, inbox.following)
        return bool(await self._client.send(self._publish(worker_of(inbox.holder), message), timeout_s=timeout_s))

    def forget(self, inbox: Inbox) -> None:
        """Nothing that comes for it is of interest any more."""
        self._inboxes.pop(inbox.following, None)

    def say(self, worker: str, message: Message) -> None:
        """Tell another worker something, behind, and perhaps in vain."""
        try:
            sent = self._client.send(self._publish(worker, message))
        except StoreError:
            return
        asyncio.ensure_future(sent).add_done_callback(_forgiven)

    async def tell(self, worker: str, message: Message) -> None:
        """Tell another worker something. Raises FollowerLost if it does not listen, StoreError."""
        if not await self._client.send(self._publish(worker, message)):
            raise FollowerLost

    def _publish(self, worker: str, message: Message) -> bytes:
        return packed("PUBLISH", self._channels + worker, message.sealed(self._sealer))

    # what others say

    def _heard(self, data: bytes) -> None:
        message = Message.read(data, self._sealer)
        if message is None:
            return
        if message.kind is Kind.FOLLOW:
            self._followed(message)
        elif message.kind is Kind.LEAVE:
            if (task := self._broadcasts.get((message.worker, message.following))) is not None:
                task.cancel()
        elif (inbox := self._inboxes.get(message.following)) is not None:
            inbox.hear(message)
        elif message.kind in (Kind.ALIVE, Kind.CHUNKS):
            self.say(message.worker, Message(Kind.LEAVE, message.key, self.worker, message.following))

    def _followed(self, message: Message) -> None:
        name = message.worker, message.following
        if name in self._broadcasts:
            return  # it only wants to know whether we are there
        flight = self._find(message.key)
        if flight is None or len(self._broadcasts) >= MAX_FOLLOWINGS:
            self.say(message.worker, Message(Kind.GONE, message.key, self.worker, message.following))
            return
        broadcast = Broadcast(self, flight, message, beat_s=self._silence_s / _BEATS)
        task = asyncio.get_running_loop().create_task(broadcast.run())
        self._broadcasts[name] = task
        task.add_done_callback(lambda _: self._broadcasts.pop(name, None))


def _nothing(_key: bytes) -> None:
    return None


def _forgiven(future: "asyncio.Future[object]") -> None:
    if not future.cancelled():
        future.exception()
