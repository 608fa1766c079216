"""Whether a worker has more work than it can do, and how many new requests it takes on then."""

from typing import Final

from genkan.errors import RequestError

STANDING_S: Final = 0.1  # a lag that lasts shorter is a burst, which is worked off
CALM_S: Final = 0.5
KEPT_SHARE: Final = 0.4  # of the lag that is allowed: where it is kept once it has been exceeded
CALM_SHARE: Final = 0.2  # of it: below what is kept, or an end and a beginning would follow each other
MOST_MORE: Final = 1.5  # requests let in for one that has ended
CALM_PLACES: Final = 32  # from one look to the next, where the lag is that small


class ServerOverloaded(RequestError):
    """This worker cannot keep up; the request was not looked at."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"
    retry_after_s = 1.0

    def __init__(self) -> None:
        super().__init__("The server is overloaded. Try again in a moment.")


class Overload:
    """Keeps an event loop's lag below ``max_lag_s``, however many requests come.

    Two ideas of network queues. A lag is overload only where it *stands*: above the bound at every look for a tenth of
    a second (CoDel, RFC 8289). From then on what is let in is *clocked by what ends* (Jacobson 1988): one request for
    one while the lag is 0.4 of the bound, somewhat more below that, fewer above it, none at 0.8. So the work under way
    neither grows nor runs dry, and how much too much is asked for plays no part. It is over when for half a second the
    lag has been below a fifth of the bound, or below the bound while nobody had to be refused.

    What is kept is less than what is allowed, for a crowd whose turns take 20 ms is served as quickly as can be, and to
    refuse some of it would help nobody. But where some are refused anyhow, answers cost less when fewer are under way,
    and refusals go out sooner.

    No I/O and no clock. Cost: a comparison for each request while there is no overload.
    """

    __slots__ = ("_earned", "_has_refused", "_kept_lag_s", "_max_lag_s", "_more", "_places", "_since_s", "sheds")

    def __init__(self, max_lag_s: float) -> None:
        self._max_lag_s = max_lag_s
        self._kept_lag_s = KEPT_SHARE * max_lag_s
        self._since_s: float | None = None  # since when every look has spoken for a change
        self._more = 0.0
        self._places = self._earned = 0.0
        self._has_refused = False  # since the last look
        self.sheds = False  # whether to ask ``admits`` of each new request

    def looked(self, now_s: float, lag_s: float) -> None:
        """The loop lags by ``lag_s`` now. To be told a few times in each ``STANDING_S`` while there is work."""
        calm = lag_s < CALM_SHARE * self._max_lag_s
        self._more = min(MOST_MORE, max(0.0, 2.0 - lag_s / self._kept_lag_s))
        # What ended before the last look is worth nothing any more: places must not gather for a burst.
        self._places = max(min(self._places, self._earned), CALM_PLACES if calm else 0.0)
        self._earned = 0.0
        is_above = lag_s > self._max_lag_s
        is_over = calm or not (is_above or self._has_refused)
        self._has_refused = False
        if not (is_over if self.sheds else is_above):
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= (CALM_S if self.sheds else STANDING_S):
            self.sheds = not self.sheds
            self._since_s = None

    def ended(self) -> None:
        """A request that was let in has come to its end."""
        self._places += self._more
        self._earned += self._more

    def admits(self) -> bool:
        """Whether one more request may come in; it counts as come in then."""
        if self._places < 1.0:
            self._has_refused = True
            return False
        self._places -= 1.0
        return True
