"""What is kept of an arm's requests: counts and sums, so that those of any workers and times add up.

Of each figure there is the sum, for its average, and the sums of its logarithm and of the logarithm's square, for the
mean and the variance that are compared. A variance taken from such sums is off by n · 2^-53 · (mean/deviation)² of
itself at most: by two millionths for a million logarithms near 14, as those of costs are in nano-dollars, that scatter
by 0.1; as a rule by much less, for errors of rounding cancel.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import log
from typing import Literal, get_args

from genkan.clock import Clock
from genkan.gateway.arm import Sample

Figure = Literal["latency", "ttft", "cost", "tokens"]
FIGURES: tuple[Figure, ...] = get_args(Figure)

_LEAST_S = 1e-6  # a shorter time is taken for this; less than one nano-dollar or token for one


class Sums:
    """Of one figure: seconds, nano-dollars or tokens."""

    __slots__ = ("count", "logs", "squares", "total")

    def __init__(self, count: float = 0.0, total: float = 0.0, logs: float = 0.0, squares: float = 0.0) -> None:
        self.count = count
        self.total = total
        self.logs = logs
        self.squares = squares  # of the logarithms

    @property
    def mean(self) -> float | None:
        """The average; None of nothing."""
        return self.total / self.count if self.count else None

    @property
    def log_mean(self) -> float:
        """The mean logarithm. There must be one at least."""
        return self.logs / self.count

    @property
    def log_variance(self) -> float:
        """The logarithm's variance, as estimated from a sample. There must be two at least."""
        return max(self.squares - self.logs * self.logs / self.count, 0.0) / (self.count - 1)

    def values(self) -> tuple[float, float, float, float]:
        return self.count, self.total, self.logs, self.squares


class ArmSums:
    """Of one arm's requests. Only those that were answered have figures, and TTFT only those that were streams."""

    __slots__ = ("cost", "failures", "latency", "n", "tokens", "ttft")

    def __init__(
        self,
        n: float = 0.0,
        failures: float = 0.0,
        *,
        latency: Sums | None = None,
        ttft: Sums | None = None,
        cost: Sums | None = None,
        tokens: Sums | None = None,
    ) -> None:
        self.n = n
        self.failures = failures
        self.latency = latency or Sums()
        self.ttft = ttft or Sums()
        self.cost = cost or Sums()
        self.tokens = tokens or Sums()

    def figure(self, name: Figure) -> Sums:
        """The sums of one of the figures."""
        found: Sums = getattr(self, name)
        return found

    def add(self, sample: Sample) -> None:
        """One request more. Cost: about 1 µs."""
        self.n += 1.0
        if not sample.ok:
            self.failures += 1.0
            return
        seconds = sample.seconds
        sums = self.latency
        sums.count += 1.0
        sums.total += seconds
        logarithm = log(seconds if seconds > _LEAST_S else _LEAST_S)
        sums.logs += logarithm
        sums.squares += logarithm * logarithm
        if sample.ttft_s is not None and sample.is_stream:
            _add(self.ttft, sample.ttft_s, _LEAST_S)
        if sample.cost_nano_usd is not None:
            _add(self.cost, sample.cost_nano_usd, 1)
        if sample.tokens is not None:
            _add(self.tokens, sample.tokens, 1)

    def merged(self, other: "ArmSums") -> "ArmSums":
        """Of the requests of both."""
        return ArmSums.of(map(sum, zip(self.values(), other.values(), strict=True)))

    def values(self) -> Iterator[float]:
        """All sums in the order of `NAMES`."""
        yield self.n
        yield self.failures
        for name in FIGURES:
            yield from self.figure(name).values()

    @classmethod
    def of(cls, values: Iterable[float]) -> "ArmSums":
        """What has these `values`."""
        n, failures, *rest = values
        figures = {name: Sums(*rest[4 * place : 4 * place + 4]) for place, name in enumerate(FIGURES)}
        return cls(n, failures, **figures)

    def named(self, arm: str) -> dict[str, float]:
        """Those that are not 0, by ``arm``, a dot, and the name."""
        return {f"{arm}.{name}": value for name, value in zip(NAMES, self.values(), strict=True) if value}

    @classmethod
    def from_named(cls, arm: str, named: Mapping[str, float]) -> "ArmSums":
        """What `named` made; what is missing is 0."""
        return cls.of([named.get(f"{arm}.{name}", 0.0) for name in NAMES])


class ArmRecorder:
    """An Arm that adds up what ends on it."""

    __slots__ = ("_clock", "_since_s", "_sums", "name")

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._since_s: float | None = None
        self._sums = ArmSums()

    def ended(self, sample: Sample) -> None:
        """See Arm. Cost: about 1 µs."""
        if self._since_s is None or self._clock.monotonic() - sample.seconds >= self._since_s:
            self._sums.add(sample)

    def restart(self) -> None:
        """Forget what has ended, and count only requests that begin from now on.

        Of those under way only one arm may have any, after a rollback, say: what fails at once on the other would stand
        against answers that take their time.
        """
        self._since_s = self._clock.monotonic()
        self.take()

    def take(self) -> ArmSums:
        """What has ended since this was last called."""
        taken, self._sums = self._sums, ArmSums()
        return taken


NAMES: tuple[str, ...] = (
    "n",
    "failures",
    *(f"{figure}.{name}" for figure in FIGURES for name in ("count", "total", "logs", "squares")),
)


def _add(sums: Sums, value: float, least: float) -> None:
    sums.count += 1.0
    sums.total += value
    logarithm = log(value if value > least else least)
    sums.logs += logarithm
    sums.squares += logarithm * logarithm
