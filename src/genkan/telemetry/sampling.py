"""Which requests are traced: a client's own decision counts, but only so often."""

import random
from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from genkan.clock import Clock
from genkan.store.bucket import FULL, Bucket

_SECOND_US: Final = 1_000_000


def sampler_of(ratio: float, parents_per_s: int, clock: Clock) -> Sampler:
    """``ratio`` of the requests that come without a ``traceparent``, and of those that come with one what it says.

    Anybody can say "sample it" with each request: see SampledParents.
    """
    return ParentBased(TraceIdRatioBased(ratio), remote_parent_sampled=SampledParents(ratio, parents_per_s, clock))


class SampledParents(Sampler):
    """Requests whose sender has sampled them: all, up to ``per_s`` in a second, and then ``ratio`` of them.

    Of those it is chance that decides, not the trace's id, which is the sender's to choose.
    """

    def __init__(self, ratio: float, per_s: int, clock: Clock) -> None:
        self._ratio, self._clock = ratio, clock
        self._bucket, self._state = Bucket(per_s, _SECOND_US, per_s), FULL

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        after = self._bucket.take(self._state, int(_SECOND_US * self._clock.monotonic()), 1)
        if after is not None:
            self._state = after
        elif random.random() >= self._ratio:  # noqa: S311 - which ones does not matter
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return f"SampledParents{{{self._bucket.limit} per s, then {self._ratio}}}"
