"""Whether the engine is still well after steps in which something failed."""

import logging
import math
from array import array
from collections.abc import Sequence

import torch

from genkan.clock import Clock
from genkan.engine.batch import BatchItem
from genkan.engine.runner import Pass
from genkan.engine.scheduler import Scheduler
from genkan.engine.step import Outcome
from genkan.errors import EngineFailed

_PAUSE_A_CHECK = 19  # times what the last took: 0.4 s with 50,000 pages

_log = logging.getLogger("genkan.engine")


class FailedSteps:
    """Counts failed steps, and tells a broken engine from requests that fail."""

    def __init__(self, forward: Pass, scheduler: Scheduler, limit: int, clock: Clock) -> None:
        """``limit``: steps in a row in which everything failed, before the model itself is looked at."""
        self.num_failed = 0
        self._in_a_row = 0
        self._forward = forward
        self._scheduler = scheduler
        self._limit = limit
        self._clock = clock
        self._next_check_s = -math.inf

    def note(self, outcomes: Sequence[Outcome], now_s: float) -> None:
        """A step has ended, and what failed is gone. Raises what then says that the engine is broken.

        That is an AssertionError where blocks are lost or shared, RuntimeError where the model computes nothing. Cost:
        nothing unless something failed, and then O(blocks), but a twentieth of the time at most: whose requests fail
        is not to slow the others down.
        """
        failures = sum(isinstance(outcome, EngineFailed) for outcome in outcomes)
        if not failures:
            self._in_a_row = 0
            return
        self.num_failed += 1
        self._check_blocks()
        self._in_a_row = self._in_a_row + 1 if failures == len(outcomes) else 0
        if self._in_a_row < self._limit:
            return
        # They may all have been one client's, and poisoned; nobody else is to pay for that.
        if not self._model_computes(now_s):
            raise RuntimeError(f"{self._in_a_row} steps in a row failed, and the model computes nothing")
        self._in_a_row = 0

    def _check_blocks(self) -> None:
        began_s = self._clock.monotonic()
        if began_s < self._next_check_s:
            return
        self._scheduler.check()
        ended_s = self._clock.monotonic()
        self._next_check_s = ended_s + _PAUSE_A_CHECK * (ended_s - began_s)

    def _model_computes(self, now_s: float) -> bool:
        """Whether it gives numbers for a single token, in a block that nobody needs."""
        block = self._scheduler.spare_block(now_s)
        if block is None:
            return False
        try:
            logits = self._forward([BatchItem(array("i", [0]), 0, array("i", [block]), 1)])
            return bool(torch.isfinite(logits).all())
        except Exception:  # noqa: BLE001 - that is what is asked
            _log.exception("the model computes nothing any more")
            return False
