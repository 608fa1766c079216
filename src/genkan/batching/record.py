"""What a batcher did so far."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_REMEMBERED = 1024  # latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherStatistics:
    """A snapshot. All but ``queue_size`` and the latencies count from when the batcher was made.

    A latency is the time from when an item was accepted until its outcome was there, of the last 1,024 items that had
    one; 0.0 before the first.
    """

    queue_size: int  # items that wait to be in a batch
    answered: int
    failed: int  # with an error of the predict function
    refused: int  # because the queue was full
    batches: int
    mean_batch_size: float  # 0.0 before the first
    latency_p50_s: float
    latency_p95_s: float


@dataclass(slots=True)
class BatchRecord:
    """Counts, and the last latencies. Not for several threads at once."""

    answered: int = 0
    failed: int = 0
    refused: int = 0
    batches: int = 0
    items: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def began(self, batch_size: int) -> None:
        """A batch is about to be computed."""
        self.batches += 1
        self.items += batch_size

    def ended(self, latencies_s: Iterable[float], *, answered: int, failed: int) -> None:
        """A batch was computed."""
        self.latencies_s.extend(latencies_s)
        self.answered += answered
        self.failed += failed

    def statistics(self, queue_size: int) -> BatcherStatistics:
        """Costs some 0.15 ms: it sorts the latencies."""
        ordered_s = sorted(self.latencies_s)
        return BatcherStatistics(
            queue_size=queue_size,
            answered=self.answered,
            failed=self.failed,
            refused=self.refused,
            batches=self.batches,
            mean_batch_size=self.items / max(1, self.batches),
            latency_p50_s=nearest_rank(ordered_s, 0.50),
            latency_p95_s=nearest_rank(ordered_s, 0.95),
        )


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The least of ``ordered`` that at least ``share`` of them do not exceed, or 0.0 if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
