"""When streams of one route are asked for a second time. Pure; per process.

Theory. A request that waits for its first token longer than nine in ten do is either slow or stalled, and nobody can
tell which. A second attempt mends both, but if a twentieth of all requests stall, a second attempt for each tenth would
double the load that is needed. So there is a budget, and it matters who gets it: the longer one has waited, the more
likely it is stalled. Half of the budget is for whoever asks. The other half is kept for who has waited twice as long,
by when most slow ones have been answered. Who is denied goes on waiting and asks again, so a stalled request, which
outlives slow ones, gets what becomes free. Keeping a share of what is scarce for those who need it more is known from
telephony as trunk reservation; hedging itself: Dean and Barroso, "The Tail at Scale", 2013.

The budget is a share of the last minute's requests. Stalls come by chance, and so their number in a while is the more
uneven the shorter that is. Of ten requests a second, a twentieth stalled, one in ten could not be helped within 6 % of
any ten seconds, and one in seventy within 6 % of any minute, even if nothing were spent on those that are only slow.
"""

from genkan.config import HedgeConfig
from genkan.gateway.first_tokens import FirstTokens
from genkan.gateway.retry import RetryBudget

_WINDOW_S = 60.0
_EAGER_SHARE = 0.5  # of the budget
_LONG = 1.99  # times the quantile: twice, less what timers are early
_ASK_AGAIN = 0.5  # times the quantile, or
_ASK_AGAIN_GROWS = 0.125  # times what has been waited so far, so that long waits cost little


class Hedging:
    """The thresholds and the budget of one route. Cost: some 1 µs a call."""

    __slots__ = ("_budget", "_config")

    def __init__(self, config: HedgeConfig) -> None:
        self._config = config
        self._budget = RetryBudget(config.budget_ratio, config.budget_min, _WINDOW_S)

    def requested(self, now_s: float) -> None:
        """Count a request. ``now_s`` is monotonic."""
        self._budget.requested(now_s)

    def after_s(self, times: FirstTokens, now_s: float) -> float | None:
        """How long to wait for a first token before a second attempt; None while too little is known."""
        return times.quantile(self._config.quantile) if times.count(now_s) >= self._config.min_samples else None

    def grants(self, waited_s: float, after_s: float, now_s: float) -> bool:
        """Whether who has waited so long, where ``after_s`` is the threshold, may ask twice; if so, it is counted."""
        return self._budget.take(now_s, 1.0 if waited_s >= _LONG * after_s else _EAGER_SHARE)

    @staticmethod
    def pause_s(waited_s: float, after_s: float) -> float:
        """After which to ask again."""
        return max(_ASK_AGAIN * after_s, _ASK_AGAIN_GROWS * waited_s)
