"""Makes a plan's copies between the KV memory and the host's."""

import logging

from genkan.engine.plan import Plan, Scheduled
from genkan.engine.runner import Swaps
from genkan.engine.scheduler import Scheduler

_log = logging.getLogger("genkan.engine")


class HostCopies:
    """``num_blocks``: the host's blocks for preempted KV; 0 without ``swaps``."""

    def __init__(self, swaps: Swaps | None) -> None:
        self.num_blocks = 0 if swaps is None else swaps.num_host_blocks
        self._swaps = swaps

    def make(self, plan: Plan, scheduler: Scheduler, now_s: float) -> list[Scheduled]:
        """Make those of ``plan``; the parts that can be computed then. What cannot be copied is computed again."""
        if self._swaps is None:
            return plan.parts
        lost = set()
        for copies, copy in ((plan.copies_out, self._swaps.copy_out), (plan.copies_in, self._swaps.copy_in)):
            for each in copies:
                try:
                    copy(blocks=each.blocks, host_blocks=each.host_blocks)
                except Exception as error:  # noqa: BLE001 - whatever it is, there is no copy
                    _log.error("%d KV blocks could not be copied", len(each.blocks), exc_info=error)
                    scheduler.copy_failed(each, now_s)
                    lost.add(each.sequence)
        return [part for part in plan.parts if part.sequence not in lost]
