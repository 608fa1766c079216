"""Bounds of a difference that hold at all times at once, so that one may look as often as one likes, and stop.

Where arms are compared at every moment, an ordinary interval misses sooner or later; these miss, ever, with a
probability of ``alpha`` at most. All of them are made by Robbins' method of mixtures: for each value that the unknown
may have, the likelihood of what was seen is compared with its average over a prior. For the true value that ratio is a
martingale that begins at 1, so by Ville's inequality it ever reaches 1/alpha with probability alpha at most; the
values for which it has not are the interval. Ratios of independent arms are multiplied, which is a martingale again:
so is a pair of values excluded, and the bound of a difference is the least of those of the pairs that are left.

**Shares** (`share_lower`): exact, for any number of requests. The priors are Beta(1, 24) of the share that may be the
larger, and Beta(1, 49) of the other: errors are rare, and shares of a few per cent are told apart with fewer requests
than by flat priors. They cost no validity, whatever the shares are.

**Means of logarithms** (`mean_lower`): asymptotic. For normal samples of known variances the difference of means
divided by its variance V is a Brownian motion at time 1/V, however the arms' sizes grow, as estimates before and after
have the later one's variance in common. Robbins' bound with a one-sided normal prior of `_DRIFT` holds for that. Means
of other samples with estimated variances follow such a motion so closely that the bound holds in the limit of first
looks that come late: a confidence sequence in the sense of Waudby-Smith and others, not of a finite number of samples.
So it is not used below `FEWEST` on either side, nor below the configuration's ``min_requests``. Of the two variances
the larger is taken for both, which only widens the bound: where 1 in 100 is answered a thousand times quicker, an arm
that has met none of those seems to be slower, and to be sure of it.

Assumed: that requests are independent, those of one arm alike, and that how one goes does not decide when it is seen.
Where one user, key or tenant always has the same arm, users are independent and not their requests, and the bounds are
narrower than what is known. What fails at once is seen before what is answered slowly: that is so on both arms, which
therefore begin at the same time.

H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Stat. 41 (1970).
S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann.
Stat. 49 (2021): beta-binomial and one-sided normal mixtures.
I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", Ann. Stat. 52 (2024).
"""

from math import inf, lgamma, log, log1p, sqrt

FEWEST = 50  # samples, for a mean to be taken for a normal one

_PRIOR, _OTHER_PRIOR = (1.0, 24.0), (1.0, 49.0)
_DRIFT = 0.1  # differences of logarithms, that is of a tenth, are what the bound is narrowest for
_LEAST_VARIANCE = 1e-6  # of a logarithm: nothing is known to a thousandth by seeing the same twice
_ROUNDS = 100
_CLOSE = 1e-9


def share_lower(n: float, failures: float, other_n: float, other_failures: float, alpha: float) -> float:
    """How much larger the share of failures is than the other at least, −1 to 1; of nothing, −1. Exact. Some 10 µs.

    How much larger at most is minus that of both exchanged.
    """
    k, j = failures, other_failures
    if k == 0.0 and j == other_n:
        return -1.0
    target = log(1 / alpha) - _log_average(n, k, _PRIOR) - _log_average(other_n, j, _OTHER_PRIOR)
    least = _surprise(k, n, _ratio(k, n)) + _surprise(j, other_n, _ratio(j, other_n))
    # Of thousands of millions, the roots are only good to some 1e-8.
    return min(_difference_at(n, k, other_n, j, least, target), _ratio(k, n) - _ratio(j, other_n))


def mean_lower(difference: float, variance: float, alpha: float) -> float:
    """What the difference of two means is at least, seen so with that ``variance`` of its own. Asymptotic."""
    information = 1 / variance
    spread = 1 + information * _DRIFT**2
    # The mixture is 2·exp(x)·Φ(√2x)/√spread, where Φ is at least 1 − exp(−x)/2.
    x = log((1 + sqrt(spread) / alpha) / 2)
    return difference - sqrt(2 * x * spread) / (_DRIFT * information)


def variance_of_difference(n: float, variance: float, other_n: float, other_variance: float) -> float:
    """Of two independent means, each of which is taken to scatter as much as the other, if that does more.

    One of few samples may not have met yet what is rare, and quick or slow: its own scatter then says next to nothing.
    """
    return max(variance, other_variance, _LEAST_VARIANCE) * (1 / n + 1 / other_n)


def _log_average(n: float, k: float, prior: tuple[float, float]) -> float:
    """The logarithm of the likelihood of ``k`` of ``n``, averaged over a Beta distribution."""
    a, b = prior
    return lgamma(a + k) + lgamma(b + n - k) - lgamma(a + b + n) - lgamma(a) - lgamma(b) + lgamma(a + b)


def _surprise(k: float, n: float, p: float) -> float:
    """Minus the log likelihood of ``k`` of ``n`` at the share ``p``."""
    of_failures = k * -log(p) if k and p else inf if k else 0.0
    of_others = (n - k) * -log1p(-p) if k < n and p < 1 else inf if k < n else 0.0
    return of_failures + of_others


def _ratio(k: float, n: float) -> float:
    return k / n if n else 0.0


def _difference_at(n: float, k: float, m: float, j: float, least: float, target: float) -> float:
    """The least p − q of all pairs that surprise by ``target`` in sum.

    Lagrange: there the surprise falls with p as steeply as it rises with q; so for a steepness s, p and q are the
    roots of quadratic equations. The surprise grows with s, near its least as s²: its root is nearly a straight line,
    whose zero is found by the Illinois method.
    """
    wanted = sqrt(target - least)
    low, under, high, over, was_under = 0.0, -wanted, inf, inf, True
    s = wanted * sqrt(2 / (_variance(k, n) + _variance(j, m)))
    for _ in range(_ROUNDS):
        p, q = _pushed(k, n, s), 1 - _pushed(m - j, m, s)
        off = sqrt(max(_surprise(k, n, p) + _surprise(j, m, q) - least, 0.0)) - wanted
        if abs(off) <= _CLOSE * wanted:
            break
        if off < 0:
            low, under, over = s, off, over / 2 if was_under else over
        else:
            high, over, under = s, off, under if was_under else under / 2
        was_under = off < 0
        s = 4 * s if high == inf else (low + high) / 2 if over == inf else low - under * (high - low) / (over - under)
    return p - q


def _pushed(k: float, n: float, s: float) -> float:
    """The share below k/n at which the log likelihood rises with steepness ``s``."""
    if k == 0.0:
        return 0.0
    b = n + s
    return 2 * k / (b + sqrt(max(b * b - 4 * s * k, 0.0)))


def _variance(k: float, n: float) -> float:
    """Of k/n, about; not 0 where k is."""
    return (k + 0.5) * (n - k + 0.5) / (n + 1) ** 3
