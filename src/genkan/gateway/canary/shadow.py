"""Shadow mode: the control answers everybody, and the canary is asked some of the same again, at our own cost.

A copy is made when the control has ended a request that was drawn for the canary, so that it delays nobody and takes no
upstream's room from its own original. It goes through the pipeline as the client's did, under a tenant of ours, is read
to its end, and thrown away. Nothing of it is stored.

What is compared are pairs: the control's sample counts where a copy is made, and only there. If too many are under way
to make another, which happens when both are slow, neither side is measured; requests that a stored answer was given to,
or that their clients left, have no copy.

What stays different: a copy's reader is never slow; and a copy begins when its original has ended, so that of the first
copies the quick ones are seen first, failures above all, while the control's requests come as they always do. Few at
once bound that; hundreds of copies of answers that take many seconds may be decided wrongly.
"""

import asyncio
import copy
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from genkan.errors import RequestError
from genkan.gateway.arm import Arm, Sample
from genkan.gateway.canary.arms import ArmObserver
from genkan.gateway.canary.split import Draw
from genkan.gateway.chain import Chain
from genkan.upstream.base import Responder
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest

#: Under what name copies stand in logs, limits and the ledger.
SHADOW_TENANT = "genkan-shadow"
_log = logging.getLogger("genkan.gateway")


@dataclass(frozen=True, slots=True)
class ShadowCaller(Caller):
    """Who asks what a client has asked. No client can be one."""


class Shadows:
    """One route's copies that are under way in this worker. ``start`` before any, ``aclose`` at the end."""

    def __init__(self, route: str, observer: ArmObserver, *, most: int) -> None:
        """``most`` at once; those beyond are dropped."""
        self._route = route
        self._observer = observer
        self._most = most
        self._responder: Responder | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, responder: Responder) -> None:
        """Copies are asked of ``responder`` from now on."""
        self._responder = responder

    async def aclose(self) -> None:
        """End those under way; no others are made."""
        self._responder = None
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self, request: GenerationRequest) -> bool:
        """Ask it again behind, unless too much of that is done already: whether it is. Called in the event loop."""
        if self._responder is None:
            return False
        if len(self._tasks) >= self._most:
            self._observer.shadow_dropped(self._route)
            return False
        task = asyncio.get_running_loop().create_task(_ask(self._responder, request))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a bug: a shadow copy failed", exc_info=error)


class Copying(Protocol):
    """Says which requests are copied."""

    share: float  # of the requests, 0 to 1, at the moment

    @property
    def state(self) -> str:
        """A canary that is ``promoted`` has been compared enough."""


class ShadowSplit:
    """A Split: the control's chain for everybody, and the canary's for copies."""

    def __init__(
        self, control: Chain, canary: Chain, copying: Copying, draw: Draw, shadows: Shadows, unpaired: Arm
    ) -> None:
        """``unpaired`` is told of requests that have no copy, in place of the control's arm."""
        assert control.arm is not None  # it is one side of an experiment
        self._control = control
        self._canary = canary
        self._copying = copying
        self._draw = draw
        self._shadows = shadows
        self._compared = control.arm
        self._unpaired = unpaired
        self._uncompared = _with_arm(control, unpaired)

    def chain_for(self, request: GenerationRequest, caller: Caller) -> Chain:
        """See Split. Cost: as `ArmSplit`'s, and 6 µs for a request that is to be copied."""
        if type(caller) is ShadowCaller:
            return self._canary
        if self._draw(request, caller) >= self._copying.share or self._copying.state == "promoted":
            return self._uncompared
        arm = _OriginalsArm(self._compared, self._unpaired, lambda: self._shadows.ask(request))
        return _with_arm(self._control, arm)


class _OriginalsArm:
    """The control's arm for one request: asks for the copy when it has ended."""

    __slots__ = ("_ask", "_compared", "_unpaired", "name")

    def __init__(self, compared: Arm, unpaired: Arm, ask: Callable[[], bool]) -> None:
        self.name = compared.name
        self._compared = compared
        self._unpaired = unpaired
        self._ask = ask

    def ended(self, sample: Sample) -> None:
        arm = self._compared if self._ask() else self._unpaired
        arm.ended(sample)


def _with_arm(chain: Chain, arm: Arm) -> Chain:
    """The same chain, retry budget and all, whose requests tell another arm how they went."""
    other = copy.copy(chain)
    other.arm = arm
    return other


async def _ask(responder: Responder, request: GenerationRequest) -> None:
    """How it went is its arm's to know, and what it took the ledger's."""
    copied = replace(request, extras=replace(request.extras, cache="no-store"))
    caller = ShadowCaller(f"shadow-{os.urandom(16).hex()}", tenant=SHADOW_TENANT)
    try:
        answer = await responder.respond(copied, caller)
        try:
            if answer.batches is not None:
                async for _ in answer.batches:
                    pass
        finally:
            await answer.aclose()
    except RequestError as error:
        _log.debug("a shadow copy was not answered: %s", error.outcome)  # what it says may repeat the prompt
