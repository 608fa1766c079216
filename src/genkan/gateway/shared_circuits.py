"""Circuits that all workers share by way of Redis, answered from memory.

A worker tells the others what they must know: a failure, a success that ends a row of them, an opening, a closing, a
probe that began or ended; any other success costs nothing. It is told behind: `save` returns at once, and the others
know about a millisecond later. So two workers may each begin a probe within that millisecond; otherwise there is one
at a time. Who starts later, or was cut off, reads what all agreed on from a hash of the same name as the channel.

While Redis is gone each worker goes on by itself. What changed meanwhile is told when it is back.
"""

import asyncio
import logging
import secrets

from genkan.clock import Clock
from genkan.errors import StoreError, StoreRefused
from genkan.gateway.breaker import Circuit
from genkan.gateway.told_circuit import ToldCircuit
from genkan.store.address import Address
from genkan.store.resp import RespClient, Script
from genkan.store.subscription import Subscription

_AGAIN_S = 0.5
#: Others may tell of deployments that we do not have; of so many at most.
_MAX_CIRCUITS = 10_000

_log = logging.getLogger("genkan.gateway")

_Known = tuple[int, int, int, float]


class SharedCircuits:
    """A CircuitStore. Cost of `load` and `save` together: below 1 µs while there is nothing to tell."""

    def __init__(
        self, client: RespClient, address: Address, *, prefix: str, connect_s: float, timeout_s: float, clock: Clock
    ) -> None:
        """``client`` is a client of the Redis at ``address``, where a connection more is made to listen.

        ``clock`` is that of the moments given to the breakers.
        """
        self._client = client
        self._clock = clock
        self._key = f"{prefix}:circuits"
        self._worker = secrets.token_hex(8)
        self._circuits: dict[str, Circuit] = {}
        self._known: dict[str, _Known] = {}  # what the others know, or will
        self._changed: set[str] = set()  # of these they do not yet
        self._is_behind = True  # what all agreed on is still to be read
        self._was_refused = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subscription = Subscription(
            address,
            self._key,
            connect_s=connect_s,
            timeout_s=timeout_s,
            on_message=self._heard,
            on_connected=self._joined,
        )
        self._publish = Script.load("publish_circuit")
        self._read = Script.load("read_circuits")

    async def start(self) -> None:
        """Begin to share. Raises nothing, and waits for Redis no longer than ``connect_s``."""
        self._task = asyncio.get_running_loop().create_task(self._keep_telling())
        await self._subscription.start()

    async def aclose(self) -> None:
        """Go on alone."""
        await self._subscription.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def load(self, deployment: str) -> Circuit:
        """See CircuitStore."""
        try:
            return self._circuits[deployment]
        except KeyError:
            circuit = self._circuits[deployment] = Circuit()
            self._known[deployment] = _known(circuit)
            return circuit

    def save(self, deployment: str, circuit: Circuit) -> None:
        """See CircuitStore."""
        self._circuits[deployment] = circuit
        known = _known(circuit)
        if known != self._known.get(deployment):
            self._known[deployment] = known
            self._tell(deployment)

    # to the others

    def _tell(self, deployment: str) -> None:
        self._changed.add(deployment)
        self._wake.set()

    async def _keep_telling(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._is_behind:
                    await self._catch_up()
                while self._changed:
                    await self._tell_one(next(iter(self._changed)))
                self._was_refused = False
            except StoreError as error:
                if isinstance(error, StoreRefused) and not self._was_refused:
                    self._was_refused = True
                    _log.warning("Redis does not let workers share their circuits: %s", error)
                await asyncio.sleep(_AGAIN_S)
                self._wake.set()

    async def _tell_one(self, deployment: str) -> None:
        self._changed.discard(deployment)
        circuit = self._circuits[deployment]
        told = ToldCircuit.of(self._worker, deployment, circuit, self._clock.monotonic())
        try:
            missed = await self._client.run(self._publish, [self._key], [deployment, told.generation, told.write()])
        except BaseException:
            self._changed.add(deployment)
            raise
        if missed is not None:
            self._take_known(missed)

    # from the others

    def _joined(self, _is_another: bool) -> None:
        self._is_behind = True
        self._wake.set()

    async def _catch_up(self) -> None:
        """Take what was agreed on, and tell what is not among it."""
        known = await self._client.run(self._read, [self._key], [])
        self._is_behind = False
        generations = self._take_known(known)
        for deployment, circuit in self._circuits.items():
            if circuit.generation > generations.get(deployment, 0):
                self._changed.add(deployment)

    def _take_known(self, known: list[int | bytes]) -> dict[str, int]:
        """Take what the scripts found: a flat list of ages in ms and messages. The generations found."""
        generations: dict[str, int] = {}
        for age_ms, message in zip(known[::2], known[1::2], strict=True):
            assert isinstance(age_ms, int)
            assert isinstance(message, bytes)
            told = ToldCircuit.read(message)
            if told is not None:
                generations[told.deployment] = told.generation
                if told.worker != self._worker:
                    self._take(told, age_s=max(age_ms, 0) / 1000)
        return generations

    def _heard(self, message: bytes) -> None:
        told = ToldCircuit.read(message)
        if told is not None and told.worker != self._worker:
            self._take(told)

    def _take(self, told: ToldCircuit, *, age_s: float | None = None) -> None:
        if told.deployment not in self._circuits and len(self._circuits) >= _MAX_CIRCUITS:
            return
        circuit = self.load(told.deployment)
        told.merge_into(circuit, self._clock.monotonic(), age_s=age_s)
        self._known[told.deployment] = _known(circuit)


def _known(circuit: Circuit) -> _Known:
    """What others must know; if it is the same as before, there is nothing to tell."""
    return circuit.generation, circuit.consecutive, circuit.probes, circuit.probe_until_s
